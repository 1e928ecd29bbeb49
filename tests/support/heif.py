"""Builds HEIC and AVIF files box by box: grids, transformations and auxiliary images as phones write them."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO

import pillow_heif
from PIL import Image

from shared.images.heif import HEVC, read_heif

CROP, ROTATION, MIRROR = b"clap", b"irot", b"imir"
# By EXIF orientation: the quarter turns to the left, and then whether left and right are exchanged.
TRANSFORMATIONS = {1: (0, 0), 2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (3, 1), 6: (3, 0), 7: (1, 1), 8: (1, 0)}
KINDS = ("HEIF", "AVIF")
_GRID = b"grid"


@dataclass(frozen=True)
class Item:
    """An item of a file; properties: boxes, with whether they are essential."""

    kind: bytes
    data: bytes
    properties: tuple[tuple[bytes, bool], ...] = ()
    references: tuple[tuple[bytes, tuple[int, ...]], ...] = field(default=())

    def add(self, *properties: bytes, is_essential: bool = True) -> "Item":
        return replace(self, properties=(*self.properties, *((one, is_essential) for one in properties)))


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I", 8 + sum(map(len, content))) + kind + b"".join(content)


def full_box(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def size_box(width: int, height: int) -> bytes:
    return full_box(b"ispe", struct.pack(">II", width, height))


def rotation(quarters: int) -> bytes:
    return box(ROTATION, bytes((quarters,)))


def mirror(axis: int) -> bytes:
    """0: top and bottom are exchanged; 1: left and right."""
    return box(MIRROR, bytes((axis,)))


def crop_box(width: int, height: int, x: int = 0, y: int = 0) -> bytes:
    """Return a crop whose centre is (x, y) half pixels from that of the image."""
    return box(CROP, struct.pack(">IIIIiIiI", width, 1, height, 1, x, 2, y, 2))


def transformations(orientation: int) -> list[bytes]:
    quarters, is_mirrored = TRANSFORMATIONS[orientation]
    return ([rotation(quarters)] if quarters else []) + ([mirror(1)] if is_mirrored else [])


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    """Encode an image by the encoder of its format alone."""
    buffer = BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(buffer, **{"quality": 90, **options})
    else:
        image.save(buffer, "AVIF", **{"quality": 90, "speed": 9, **options})
    return buffer.getvalue()


def encode_item(image: Image.Image, kind: str, **options: object) -> Item:
    """Return an image as an item of a file."""
    return extract_item(save(image, kind, **options))


def extract_item(data: bytes) -> Item:
    header = read_heif(data)
    (tile,) = header.tiles
    properties = tuple((data[one.start : one.end], True) for one in tile.properties)
    return Item(header.codec, b"".join(data[start:end] for start, end in tile.extents), properties)


def set_property(item: Item, kind: bytes, *boxes: bytes) -> Item:
    kept = tuple(one for one in item.properties if one[0][4:8] != kind)
    return replace(item, properties=kept).add(*boxes)


def set_size(item: Item, width: int, height: int) -> Item:
    return set_property(item, b"ispe", size_box(width, height))


def grid(image: Image.Image, kind: str, *, side: int = 64, output: tuple[int, int] | None = None) -> list[Item]:
    """Return an image as tiles, and their grid as the last item."""
    columns, rows = -(-image.width // side), -(-image.height // side)
    places = [(side * column, side * row) for row in range(rows) for column in range(columns)]
    tiles = [encode_item(image.crop((x, y, x + side, y + side)), kind) for x, y in places]
    return [*tiles, grid_item(columns, rows, output or image.size)]


def grid_item(columns: int, rows: int, output: tuple[int, int]) -> Item:
    is_large = max(output) > 65_535
    content = struct.pack(">BBBB", 0, is_large, rows - 1, columns - 1) + struct.pack(
        ">II" if is_large else ">HH", *output
    )
    parts = tuple(range(1, columns * rows + 1))
    size = size_box(*output)
    return Item(_GRID, content, ((size, False),), ((b"dimg", parts),))


def crowded_grid(tile: Item, *, side: int = 60, is_shared: bool = False, parts: int = 1, properties: int = 5) -> bytes:
    """Return a grid of `side` x `side` tiles of 64 x 64 pixels, each of so many parts, of a byte, and properties.

    is_shared: all tiles are one item.
    """
    count = side * side
    numbers = [1] * count if is_shared else range(1, count + 1)
    primary = len({*numbers}) + 1
    listed = [*(one for one, _ in tile.properties), size_box(64 * side, 64 * side)]
    associated = bytes(range(1, len(listed))).ljust(properties, b"\1")
    canvas = struct.pack(">BBBBHH", 0, 0, side - 1, side - 1, 64 * side, 64 * side)
    # Offsets of no bytes and lengths of one, so that a part takes a byte.
    locations = [struct.pack(">HHHIH", one, 0, 0, 8, parts) + b"\1" * parts for one in {*numbers}]
    locations.append(struct.pack(">HHHIHB", primary, 1, 0, 0, 1, len(canvas)))
    entries = [struct.pack(">HH", one, 0) + tile.kind for one in {*numbers}] + [struct.pack(">HH4s", primary, 0, _GRID)]
    associations = [struct.pack(">HB", one, len(associated)) + associated for one in {*numbers}]
    associations.append(struct.pack(">HBB", primary, 1, len(listed)))
    meta = full_box(
        b"meta",
        full_box(b"pitm", struct.pack(">H", primary)),
        full_box(b"iloc", b"\1\x40", struct.pack(">H", primary), *locations, version=1),
        full_box(b"iinf", struct.pack(">H", primary), *(full_box(b"infe", one, b"\0", version=2) for one in entries)),
        box(b"iprp", box(b"ipco", *listed), full_box(b"ipma", struct.pack(">I", primary), *associations)),
        full_box(b"iref", box(b"dimg", struct.pack(f">HH{count}H", primary, count, *numbers))),
        box(b"idat", canvas),
    )
    return box(b"ftyp", b"heic", bytes(4), b"heic", b"mif1") + meta + box(b"mdat", bytes(count))


def build_heif(
    items: Sequence[Item], *, primary: int | None = None, brands: tuple[bytes, ...] = (), before: bytes = b""
) -> bytes:
    """Return a file of items, which are numbered from 1; the last one is primary.

    before: boxes between the brands and the tables.
    """
    names = brands or ((b"heic",) if any(item.kind == HEVC for item in items) else (b"avif",))
    head = box(b"ftyp", names[0], bytes(4), *names, b"mif1") + before
    number = primary or len(items)
    offset = len(head) + len(_build_meta(items, number, 0)) + 8
    return head + _build_meta(items, number, offset) + box(b"mdat", *(item.data for item in items))


def _build_meta(items: Sequence[Item], primary: int, offset: int) -> bytes:
    entries, locations, associations, references = [], [], [], []
    properties: list[bytes] = []
    for number, item in enumerate(items, 1):
        entries.append(full_box(b"infe", struct.pack(">HH", number, 0), item.kind, b"\0", version=2))
        locations.append(struct.pack(">HHHII", number, 0, 1, offset, len(item.data)))
        offset += len(item.data)
        properties += [one for one, _ in item.properties if one not in properties]
        listed = [properties.index(one) + 1 | 0x8000 * needed for one, needed in item.properties]
        associations.append(struct.pack(f">HB{len(listed)}H", number, len(listed), *listed))
        references += [box(kind, struct.pack(f">HH{len(to)}H", number, len(to), *to)) for kind, to in item.references]
    count = struct.pack(">H", len(items))
    return full_box(
        b"meta",
        full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
        full_box(b"pitm", struct.pack(">H", primary)),
        full_box(b"iloc", b"\x44\0", count, *locations),
        full_box(b"iinf", count, *entries),
        full_box(b"iref", *references),
        box(
            b"iprp",
            box(b"ipco", *properties),
            full_box(b"ipma", struct.pack(">I", len(items)), *associations, flags=1),
        ),
    )
