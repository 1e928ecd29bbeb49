"""HEIC and AVIF decode to what the reference shows: tile by tile, upright, in RGB of 8 bits."""

import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from shared.errors import ClientError, ImageTooCostly, ImageTooLarge, NotAnImage
from shared.images.heif import read_heif
from tests.support import heif
from tests.support.heif import (
    KINDS,
    Item,
    box,
    build_heif,
    encode_item,
    full_box,
    grid,
    grid_item,
    save,
    set_property,
    set_size,
)
from tests.support.images import EXIF_ORIENTATION, coffee
from worker.decoding.decoders import DecodeLimits, Decoders
from worker.decoding.heif import build_file
from worker.decoding.pixels import decode
from worker.decoding.request import ImageRequest
from worker.slabs import SlabAllocator, SlabPool

MAX_PIXELS = 10_000_000
PHOTO = coffee().resize((150, 100))
CODED = {kind: encode_item(PHOTO, kind) for kind in KINDS}
# By EXIF orientation.
UPRIGHT = (
    None,
    *(
        getattr(Image.Transpose, name)
        for name in (
            "FLIP_LEFT_RIGHT",
            "ROTATE_180",
            "FLIP_TOP_BOTTOM",
            "TRANSPOSE",
            "ROTATE_270",
            "TRANSVERSE",
            "ROTATE_90",
        )
    ),
)


def load(data: bytes) -> np.ndarray:
    image = decode(data, max_pixels=MAX_PIXELS)
    assert image.mode == "RGB"
    return np.asarray(image)


def load_reference(data: bytes, kind: str) -> np.ndarray:
    """Decode a file by libheif and libavif as a whole."""
    if kind == "HEIF":
        image = pillow_heif.open_heif(data).to_pillow()
    else:
        image = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    return np.asarray(image.convert("RGB"))


def measure_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean difference of two images in levels of 256; infinity if their sizes differ."""
    return float(np.abs(one.astype(int) - other).mean()) if one.shape == other.shape else float("inf")


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_decodes_to_nearly_its_pixels(kind: str) -> None:
    assert measure_difference(load(save(PHOTO, kind)), np.asarray(PHOTO)) < 6


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_decodes_like_the_reference(kind: str, mode: str) -> None:
    image = PHOTO.convert(mode)
    if mode == "RGBA":
        image.putalpha(PHOTO.convert("L"))
    data = save(image, kind)

    assert np.array_equal(load(data), load_reference(data, kind))


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:2", "4:2:0", "4:0:0"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_subsampling_decodes_like_the_reference(kind: str, chroma: str) -> None:
    image = PHOTO.convert("L") if chroma == "4:0:0" else PHOTO
    options = {"subsampling": chroma} if kind == "AVIF" or chroma != "4:0:0" else {}
    data = save(image, kind, **options)

    assert np.array_equal(load(data), load_reference(data, kind))


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (33, 65), (64, 64), (151, 99)])
@pytest.mark.parametrize("kind", KINDS)
def test_odd_sizes_decode_like_the_reference(kind: str, size: tuple[int, int]) -> None:
    data = save(PHOTO.resize(size), kind)

    assert load(data).shape[:2] == size[::-1]
    assert np.array_equal(load(data), load_reference(data, kind))


@pytest.mark.parametrize("is_twelve", [False, True])
def test_ten_and_twelve_bits_decode_like_eight(*, is_twelve: bool) -> None:
    pixels = (np.asarray(PHOTO).astype(np.uint16) << 8).tobytes()
    deep = pillow_heif.from_bytes("RGB;16", PHOTO.size, pixels)
    buffer = BytesIO()
    pillow_heif.options.SAVE_HDR_TO_12_BIT = is_twelve
    try:
        deep.save(buffer, quality=95)
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = False
    (tile,) = read_heif(buffer.getvalue()).tiles

    assert tile.decoded_bytes == 3.0
    assert measure_difference(load(buffer.getvalue()), np.asarray(PHOTO)) < 5


def test_ten_bits_of_avif_decode_like_eight() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    data = imagecodecs.avif_encode(np.asarray(PHOTO).astype(np.uint16) << 2, bitspersample=10, level=95, speed=9)

    assert read_heif(data).tiles[0].decoded_bytes > 2
    assert measure_difference(load(data), np.asarray(PHOTO)) < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_every_transformation_is_applied(kind: str, orientation: int) -> None:
    plain = Image.fromarray(load(build_heif([CODED[kind]])))
    data = build_heif([CODED[kind].add(*heif.transformations(orientation))])
    transposition = UPRIGHT[orientation - 1]
    expected = plain if transposition is None else plain.transpose(transposition)

    assert np.array_equal(load(data), np.asarray(expected))
    assert np.array_equal(load(data), load_reference(data, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_both_axes_of_a_mirror_are_those_of_the_reference(kind: str) -> None:
    for boxes in ([heif.mirror(0)], [heif.mirror(1)], [heif.rotation(1), heif.mirror(0)]):
        data = build_heif([CODED[kind].add(*boxes)])
        assert np.array_equal(load(data), load_reference(data, kind))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_the_orientation_in_exif_is_not_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    turned = CODED[kind].add(*heif.transformations(orientation))
    metadata = Item(b"Exif", b"\0\0\0\6" + exif.tobytes(), references=((b"cdsc", (2,)),))

    # As phones write it: the transformations and the metadata say the same.
    data = build_heif([metadata, turned])
    assert np.array_equal(load(data), load(build_heif([turned])))
    # As editors leave it: the metadata is stale.
    assert np.array_equal(load(build_heif([metadata, CODED[kind]])), load(build_heif([CODED[kind]])))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_is_its_tiles_side_by_side(kind: str, orientation: int) -> None:
    *tiles, whole = grid(PHOTO, kind)
    data = build_heif([*tiles, whole.add(*heif.transformations(orientation))])
    canvas = Image.new("RGB", (192, 128))
    for number, tile in enumerate(tiles):
        canvas.paste(Image.fromarray(load(build_heif([tile]))), (64 * (number % 3), 64 * (number // 3)))
    expected = canvas.crop((0, 0, *PHOTO.size))

    turned = expected.transpose(Image.Transpose.ROTATE_270) if orientation == 6 else expected
    assert np.array_equal(load(data), np.asarray(turned))
    # libavif joins the planes before it makes RGB of them, so colours differ at the borders of tiles.
    assert measure_difference(load(data), load_reference(data, kind)) < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_without_a_matrix_have_that_of_their_grid(kind: str) -> None:
    *tiles, whole = grid(PHOTO, kind)
    of_bt_709 = box(b"colr", b"nclx", struct.pack(">HHHB", 1, 13, 1, 0))
    plain = [set_property(tile, b"colr") for tile in tiles]

    inherited = load(build_heif([*plain, whole.add(of_bt_709)]))

    assert np.array_equal(inherited, load(build_heif([*(tile.add(of_bt_709) for tile in plain), whole])))
    assert measure_difference(inherited, load(build_heif([*tiles, whole]))) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_crop_leaves_is_shown(kind: str) -> None:
    whole = load(build_heif([CODED[kind]]))
    cropped = build_heif([CODED[kind].add(heif.crop_box(100, 50, 10, -4), heif.rotation(2))])

    assert np.array_equal(load(cropped), whole[23:73, 30:130][::-1, ::-1])


def test_a_crop_is_that_of_the_reference() -> None:
    for crop in ((100, 50, 0, 0), (99, 51, 1, 1), (101, 49, -7, 5)):
        data = build_heif([CODED["HEIF"].add(heif.crop_box(*crop))])
        # libheif crops the planes before it makes RGB of them, half a pixel of colour aside.
        assert measure_difference(load(data), load_reference(data, "HEIF")) < 3


def test_thumbnails_depth_maps_and_alpha_beside_are_not_shown() -> None:
    grey = encode_item(PHOTO.convert("L"), "HEIF")
    items = [
        replace(encode_item(PHOTO.resize((32, 32)), "HEIF"), references=((b"thmb", (3,)),)),
        replace(grey.add(full_box(b"auxC", b"urn:mpeg:hevc:2015:auxid:1\0")), references=((b"auxl", (3,)),)),
        CODED["HEIF"],
        replace(grey.add(full_box(b"auxC", b"urn:mpeg:hevc:2015:auxid:2\0")), references=((b"auxl", (3,)),)),
    ]

    assert np.array_equal(load(build_heif(items, primary=3)), load(build_heif([CODED["HEIF"]])))


def test_a_sequence_is_its_first_image() -> None:
    data = save(PHOTO, "AVIF", save_all=True, append_images=[Image.new("RGB", PHOTO.size)] * 3)

    assert np.array_equal(load(data), load_reference(data, "AVIF"))


@pytest.mark.parametrize("size", [(151, 100), (75, 50), (16, 16), (3000, 3000)])
def test_another_size_than_that_of_the_header_is_damaged_or_scaled(size: tuple[int, int]) -> None:
    with pytest.raises(NotAnImage, match="damaged"):
        load(build_heif([set_size(CODED["HEIF"], *size)]))
    # libavif scales the coded image to the size of the header, because layers of an AVIF have other sizes.
    assert load(build_heif([set_size(CODED["AVIF"], *size)])).shape[:2] == size[::-1]


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_pixels_are_refused(kind: str) -> None:
    for coded in (b"a", bytes(3000), CODED[kind].data[:20]):
        with pytest.raises(ClientError):
            load(build_heif([replace(CODED[kind], data=coded)]))


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    pool = SlabPool.create(64 << 20)
    decoders = Decoders(SlabAllocator(pool), DecodeLimits(max_bytes=600_000_000, max_seconds=5.0))
    decoders.start()
    yield decoders
    decoders.stop()
    pool.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_process_decodes_the_same_pixels(decoders: Decoders, kind: str) -> None:
    data = build_heif([*grid(PHOTO, kind)[:-1], grid_item(3, 2, PHOTO.size).add(heif.rotation(1))])

    with decoders.decode(data, ImageRequest(MAX_PIXELS, None)) as decoded:
        assert (decoded.width, decoded.height) == (100, 150)
        assert np.array_equal(decoded.model_input.pixels, load(data))


@pytest.mark.parametrize("kind", KINDS)
def test_a_coded_size_beyond_that_of_the_header_meets_the_limit_of_memory(decoders: Decoders, kind: str) -> None:
    options = {"enc_params": {"preset": "ultrafast"}} if kind == "HEIF" else {"speed": 10}
    side = 4000 if kind == "HEIF" else 6000
    large = encode_item(Image.new("RGB", (side, side)), kind, **options)

    with pytest.raises((ImageTooLarge, NotAnImage, ImageTooCostly)):
        decoders.decode(build_heif([set_size(large, 64, 64)]), ImageRequest(MAX_PIXELS, None))


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32))
def test_a_damaged_file_decodes_or_raises_a_client_error(decoders: Decoders, kind: str, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(build_heif([CODED[kind].add(heif.rotation(1))]))
    for _ in range(rng.randint(1, 12)):
        data[rng.randrange(len(data) if rng.random() < 0.6 else 600)] = rng.randrange(256)

    try:
        decoders.decode(bytes(data), ImageRequest(MAX_PIXELS, None)).release()
    except ClientError:
        return


def test_the_file_for_a_decoder_holds_nothing_else() -> None:
    secret = Item(b"Exif", b"\0\0\0\0" + b"a place in the mountains")
    data = build_heif([secret, CODED["HEIF"]])

    file = build_file(memoryview(data), b"hvc1", read_heif(data).tiles[0])
    assert b"mountains" not in file
    assert struct.unpack(">I", file[:4])[0] == file.index(b"meta") - 4
