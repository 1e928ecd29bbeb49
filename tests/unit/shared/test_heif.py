"""The header of a HEIC or AVIF file is read within bounds, without a library, and tells what is shown."""

import random
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.errors import ClientError, ImageTooCostly, ImageTooLarge, NotAnImage, TruncatedImage
from shared.images.heif import HeifImage, read_heif
from shared.jobs.inspection import inspect_image
from tests.support import heif
from tests.support.cpu_time import measure_cpu_seconds
from tests.support.heif import (
    KINDS,
    Item,
    box,
    build_heif,
    crowded_grid,
    encode_item,
    full_box,
    grid,
    grid_item,
    save,
)
from tests.support.images import coffee

MAX_PIXELS = 10_000_000
MAX_MS = 400.0  # of CPU time for 4 MB; half of it on an idle machine
MAX_GRID_MS = 400.0  # more, for the largest grid
PHOTO = coffee().resize((150, 100))
CODED = {kind: encode_item(PHOTO, kind) for kind in KINDS}
TILE = encode_item(PHOTO.resize((64, 64)), "HEIF")


def read(*properties: bytes, kind: str = "HEIF") -> HeifImage:
    return read_heif(build_heif([CODED[kind].add(*properties)]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_facts_are_those_of_an_encoders_file(kind: str) -> None:
    facts = inspect_image(save(PHOTO, kind), max_pixels=MAX_PIXELS)

    assert (facts.format, facts.width, facts.height) == ({"HEIF": "heic", "AVIF": "avif"}[kind], 150, 100)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_transformations_tell_the_orientation(kind: str, orientation: int) -> None:
    data = build_heif([CODED[kind].add(*heif.transformations(orientation))])

    facts = inspect_image(data, max_pixels=MAX_PIXELS)

    assert read_heif(data).orientation == orientation
    assert (facts.width, facts.height) == ((100, 150) if orientation > 4 else (150, 100))


def test_transformations_apply_in_their_order() -> None:
    # Mirrored left to right and then turned to the left is turned to the right and then mirrored.
    assert read(heif.mirror(1), heif.rotation(1)).orientation == read(heif.rotation(3), heif.mirror(1)).orientation == 5
    assert read(heif.rotation(1), heif.rotation(1)).orientation == 3
    assert read(heif.mirror(0), heif.mirror(1)).orientation == 3


@pytest.mark.parametrize(
    ("crop", "expected"),
    [
        (heif.crop_box(100, 50), (25, 25, 125, 75)),
        (heif.crop_box(150, 100), (0, 0, 150, 100)),
        (heif.crop_box(149, 99, -1, -1), (0, 0, 149, 99)),
        (heif.crop_box(10, 10, 140, 90), (140, 90, 150, 100)),
        (heif.crop_box(400, 400), (0, 0, 150, 100)),
    ],
)
def test_a_crop_is_in_whole_pixels_of_the_image(crop: bytes, expected: tuple[int, int, int, int]) -> None:
    assert read(crop).crop == expected


def test_a_grid_has_the_size_that_is_shown() -> None:
    header = read_heif(build_heif(grid(PHOTO, "HEIF")))

    assert (header.canvas, header.columns, len(header.tiles)) == ((150, 100), 3, 6)


def test_the_primary_item_is_taken_and_not_those_beside_it() -> None:
    thumbnail, depth = (encode_item(PHOTO.resize(size), "HEIF") for size in ((75, 50), (32, 32)))
    items = [
        replace(thumbnail, references=((b"thmb", (2,)),)),
        CODED["HEIF"],
        replace(depth.add(full_box(b"auxC", b"urn:mpeg:hevc:2015:auxid:2\0")), references=((b"auxl", (2,)),)),
        Item(b"Exif", bytes(4) + b"Exif\0\0" + bytes(60), references=((b"cdsc", (2,)),)),
    ]

    assert read_heif(build_heif(items, primary=2)).canvas == (150, 100)


@pytest.mark.parametrize("before", [box(b"free", bytes(100)), box(b"uuid", bytes(16)), box(b"moov", bytes(9))])
def test_other_boxes_are_ignored(before: bytes) -> None:
    assert read_heif(build_heif([TILE], before=before)).canvas == (64, 64)


@pytest.mark.parametrize("appended", [b"SEFH" + bytes(100), b"\xff" * 100, box(b"mpvd", bytes(1000)), bytes(7)])
def test_what_a_phone_appends_is_ignored(appended: bytes) -> None:
    assert read_heif(build_heif([TILE]) + appended).canvas == (64, 64)


def test_data_in_the_tables_and_behind_long_boxes_is_found() -> None:
    data = build_heif([TILE])
    place = data.index(b"mdat") - 4
    content = data[place + 8 :]
    long_box = struct.pack(">I4sQ", 1, b"mdat", 16 + len(content)) + content
    moved = data[:place].replace(struct.pack(">I", place + 8), struct.pack(">I", place + 16)) + long_box

    assert read_heif(moved).tiles[0].extents == ((place + 16, len(moved)),)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (b"vvc1", "VVC"),
        (b"jpeg", "JPEG"),
        (b"avc1", "H.264"),
        (b"unci", "uncompressed"),
        (b"iovl", "an overlay"),
        (b"abcd", "`abcd`"),
    ],
)
def test_a_codec_that_is_not_supported_is_named(kind: bytes, name: str) -> None:
    with pytest.raises(NotAnImage, match=f"is coded as {name}.* send it as JPEG or PNG"):
        read_heif(build_heif([replace(TILE, kind=kind)]))


def test_an_essential_property_that_is_unknown_is_named() -> None:
    assert read_heif(build_heif([TILE.add(box(b"abcd"), is_essential=False)])).canvas == (64, 64)
    with pytest.raises(NotAnImage, match="needs the property `abcd`"):
        read_heif(build_heif([TILE.add(box(b"abcd"))]))


def test_a_sequence_without_a_still_image_is_named() -> None:
    with pytest.raises(NotAnImage, match=r"sequence of images without a still image.*send one frame"):
        inspect_image(box(b"ftyp", b"msf1", bytes(4), b"hevc") + box(b"moov", bytes(99)), max_pixels=MAX_PIXELS)


def test_a_sequence_is_its_still_image() -> None:
    frames = [Image.new("RGB", PHOTO.size, (number, 0, 0)) for number in range(3)]
    data = save(PHOTO, "AVIF", save_all=True, append_images=frames)

    assert data[8:12] == b"avis"
    assert inspect_image(data, max_pixels=MAX_PIXELS).width == 150


def test_every_shortened_file_is_refused() -> None:
    data = build_heif(grid(PHOTO, "HEIF"))

    for length in range(13, len(data), 7):
        with pytest.raises((TruncatedImage, NotAnImage)):
            read_heif(data[:length])


def test_a_file_that_was_cut_short_is_said_to_be() -> None:
    data = save(PHOTO, "HEIF")

    for length in (len(data) // 2, len(data) - 1, 100):
        with pytest.raises(TruncatedImage):
            inspect_image(data[:length], max_pixels=MAX_PIXELS)


MEGABYTES = 4 << 20


def replace_property(item: Item, kind: bytes, replacement: bytes) -> Item:
    kept = tuple(one for one in item.properties if one[0][4:8] != kind)
    return replace(item, properties=kept).add(replacement)


def with_tables(*tables: bytes) -> bytes:
    return box(b"ftyp", b"heic", bytes(4), b"heic") + full_box(b"meta", *tables)


def with_items(count: int) -> bytes:
    entry = full_box(b"infe", struct.pack(">HH", 7, 0), b"hvc1\0", version=2)
    return with_tables(
        full_box(b"pitm", b"\0\1"),
        full_box(b"iinf", b"\0\1", entry * count),
        full_box(b"iloc", b"\x44\0\0\0"),
        box(b"iprp"),
    )


def with_properties(count: int) -> bytes:
    tables = (full_box(b"pitm", b"\0\1"), full_box(b"iinf", b"\0\0"), full_box(b"iloc", b"\x44\0\0\0"))
    return with_tables(*tables, box(b"iprp", box(b"ipco", box(b"free") * count)))


def with_location(**changes: int) -> bytes:
    """Return a file of one item whose location says something else."""
    data = build_heif([TILE])
    start = data.index(b"mdat") + 4
    given = {"item": 1, "reference": 0, "extents": 1, "offset": start, "length": len(TILE.data)}
    before, after = (struct.pack(">HHHII", *fields.values()) for fields in (given, given | changes))
    return data.replace(before, after)


def with_associations(count: int) -> bytes:
    table = full_box(b"ipma", struct.pack(">I", 1400), b"\0\1\0" * 1400)
    tables = (full_box(b"pitm", b"\0\1"), full_box(b"iinf", b"\0\0"), full_box(b"iloc", b"\x44\0\0\0"))
    return with_tables(*tables, box(b"iprp", box(b"ipco"), table * count))


def with_wrong_property() -> bytes:
    data = bytearray(build_heif([TILE]))
    end = data.index(b"mdat") - 4  # the table of properties is the last one
    data[end - 2 : end] = b"\x80\x63"
    return bytes(data)


def with_locations(count: int, extents: int) -> bytes:
    entry = struct.pack(">HHH", 1, 0, extents) + struct.pack(">II", 0, 4) * extents
    tables = (full_box(b"iinf", b"\0\0"), full_box(b"iloc", b"\x44\0", struct.pack(">H", count), entry * count))
    return with_tables(full_box(b"pitm", b"\0\1"), *tables, box(b"iprp"))


def with_extents(extents: int) -> bytes:
    data = build_heif([TILE])
    start = data.index(b"mdat") + 4
    before = struct.pack(">HHHII", 1, 0, 1, start, len(TILE.data))
    after = struct.pack(">HHH", 1, 0, extents) + struct.pack(">II", 0, len(TILE.data)) * extents
    grown = data.replace(before, after)
    added = len(after) - len(before)
    for kind in (b"meta", b"iloc"):
        place = grown.index(kind) - 4
        (size,) = struct.unpack_from(">I", grown, place)
        grown = grown[:place] + struct.pack(">I", size + added) + grown[place + 4 :]
    return grown


def shared_tiles(count: int) -> bytes:
    tile = replace(TILE, data=TILE.data + bytes(100_000))
    data = bytearray(
        build_heif([*[replace(TILE, data=b"")] * (count - 1), tile, grid_item(count, 1, (64 * count, 64))])
    )
    start = bytes(data).index(b"mdat") + 4
    for number in range(1, count):
        place = bytes(data).index(struct.pack(">HHHII", number, 0, 1, start, 0))
        data[place + 10 : place + 14] = struct.pack(">I", len(tile.data))
    return bytes(data)


COSTLY: dict[str, tuple[type[ClientError], Callable[[], bytes]]] = {
    "a million boxes": (ImageTooCostly, lambda: box(b"ftyp", b"heic", bytes(4)) + box(b"free") * (MEGABYTES // 8)),
    "a million boxes in its tables": (ImageTooCostly, lambda: with_tables(box(b"free") * (MEGABYTES // 8))),
    "a million items": (ImageTooCostly, lambda: with_items(MEGABYTES // 21)),
    "60,000 locations": (ImageTooCostly, lambda: with_locations(60_000, 1)),
    "4,000 locations of 100 parts": (NotAnImage, lambda: with_locations(4_000, 100)),
    "an item of 60,000 parts": (ImageTooCostly, lambda: with_extents(60_000)),
    "an item of 900 parts that are the same": (ImageTooCostly, lambda: with_extents(900)),
    "a million properties": (ImageTooCostly, lambda: with_properties(MEGABYTES // 8)),
    "an item of 200 properties": (ImageTooCostly, lambda: build_heif([TILE.add(*[box(b"pasp", bytes(8))] * 200)])),
    "300 tiles that share their data": (ImageTooCostly, lambda: shared_tiles(200)),
    "3,600 tiles that are one": (ImageTooCostly, lambda: crowded_grid(TILE, is_shared=True)),
    "3,600 tiles that are one, of 1,000 parts and 64 properties": (
        ImageTooCostly,
        lambda: crowded_grid(TILE, is_shared=True, parts=1000, properties=64),
    ),
    "3,600 tiles of 1,000 parts": (ImageTooCostly, lambda: crowded_grid(TILE, parts=1000)),
    "3,600 tiles of 64 properties": (ImageTooCostly, lambda: crowded_grid(TILE, properties=64)),
    "1,000 tables of properties": (ImageTooCostly, lambda: with_associations(1000)),
    "a size of 4 billion": (
        ImageTooLarge,
        lambda: build_heif([replace_property(TILE, b"ispe", heif.size_box(2**32 - 1, 2**32 - 1))]),
    ),
    "a size of 0": (NotAnImage, lambda: build_heif([replace_property(TILE, b"ispe", heif.size_box(0, 64))])),
    "a grid of 65,535 x 65,535": (NotAnImage, lambda: build_heif([TILE, grid_item(1, 1, (65_535, 65_535))])),
    "a grid of 4 billion pixels a side": (
        NotAnImage,
        lambda: build_heif([TILE, grid_item(1, 1, (2**32 - 1, 2**32 - 1))]),
    ),
    "a grid of 256 x 256 tiles": (
        NotAnImage,
        lambda: build_heif([TILE, replace(grid_item(1, 1, (64, 64)), data=b"\0\0\xff\xff\0\x40\0\x40")]),
    ),
    "a grid of itself": (
        NotAnImage,
        lambda: build_heif([replace(grid_item(1, 1, (64, 64)), references=((b"dimg", (1,)),))]),
    ),
    "grids of each other": (
        NotAnImage,
        lambda: build_heif([replace(grid_item(1, 1, (64, 64)), references=((b"dimg", (n,)),)) for n in (2, 1)]),
    ),
    "a tile that is larger than its image": (
        ImageTooCostly,
        lambda: build_heif([replace_property(TILE, b"ispe", heif.size_box(9000, 9000)), grid_item(1, 1, (64, 64))]),
    ),
    "an item in another file": (NotAnImage, lambda: with_location(reference=1)),
    "an item of no bytes": (NotAnImage, lambda: with_location(length=0)),
    "5,000 locations that are read": (ImageTooCostly, lambda: with_locations(5_000, 1)),
    "an item that is not there": (NotAnImage, lambda: build_heif([TILE], primary=9)),
    "a property that is not there": (NotAnImage, lambda: with_wrong_property()),
    "a crop of nothing": (NotAnImage, lambda: build_heif([TILE.add(heif.crop_box(0, 0))])),
    "a crop by 0": (NotAnImage, lambda: build_heif([TILE.add(box(heif.CROP, bytes(32)))])),
    "a crop beyond the image": (NotAnImage, lambda: build_heif([TILE.add(heif.crop_box(10, 10, 900, 900))])),
    "a crop behind a rotation": (NotAnImage, lambda: build_heif([TILE.add(heif.rotation(1), heif.crop_box(10, 10))])),
    "a box shorter than its header": (
        NotAnImage,
        lambda: box(b"ftyp", b"heic", bytes(4)) + b"\0\0\0\3free" + bytes(99),
    ),
    "a box longer than its parent": (NotAnImage, lambda: with_tables(b"\0\0\1\0pitm")),
    "no tables": (NotAnImage, lambda: with_tables()),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_hostile_file_is_refused_in_milliseconds(name: str) -> None:
    kind, build = COSTLY[name]
    data = build()

    def refuse() -> None:
        with pytest.raises(kind):
            inspect_image(data, max_pixels=MAX_PIXELS)

    assert 1000 * measure_cpu_seconds(refuse) < MAX_MS * max(1, len(data) / MEGABYTES)


def test_a_grid_of_thousands_of_tiles_is_read_in_milliseconds() -> None:
    data = crowded_grid(TILE, parts=4, properties=8)

    facts = inspect_image(data, max_pixels=100_000_000)

    assert (facts.width, facts.height) == (3840, 3840)
    assert 1000 * measure_cpu_seconds(lambda: inspect_image(data, max_pixels=100_000_000)) < MAX_MS + MAX_GRID_MS


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_file_gives_facts_or_a_client_error(seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(GRID)
    end = GRID.index(b"mdat")
    for _ in range(rng.randint(1, 12)):
        data[rng.randrange(end)] = rng.choice((0, 1, 255, rng.randrange(256)))

    try:
        facts = inspect_image(bytes(data), max_pixels=MAX_PIXELS)
    except ClientError:
        return

    assert 0 < facts.width * facts.height <= MAX_PIXELS


GRID = build_heif([*grid(PHOTO, "HEIF")[:-1], grid_item(3, 2, PHOTO.size).add(heif.crop_box(90, 90), heif.rotation(1))])
