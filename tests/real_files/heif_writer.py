"""Writes the container of AVIF and HEIC: images, grids of images, and what belongs to them (ISO/IEC 23008-12)."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.support.heif import box, full_box, size_box

_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0}  # boxes of boxes, and the bytes before the first
_HIDDEN = 1
_ESSENTIAL = 0x80
_OPTIONAL = frozenset({b"ispe", b"pixi", b"colr", b"auxC", b"pasp"})
ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"
# By the orientation of Exif: turns to the left by 90 degrees, then a mirror (0 swaps top and bottom, 1 left and right).
_TURNS: Mapping[int, tuple[int, int | None]] = {
    1: (0, None),
    2: (0, 1),
    3: (2, None),
    4: (0, 0),
    5: (1, 0),
    6: (3, None),
    7: (3, 0),
    8: (1, None),
}


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a file; its id is its place among the items, from 1 on.

    properties: boxes in the order in which they apply.
    references: a kind and the ids of the items that this one refers to.
    """

    kind: bytes
    data: bytes
    properties: Sequence[bytes] = ()
    references: Sequence[tuple[bytes, Sequence[int]]] = field(default=())
    is_hidden: bool = False

    @property
    def is_inside(self) -> bool:
        """Whether the data is in the box of the descriptions, and not with the coded images."""
        return self.kind == b"grid"

    def add(self, *properties: bytes) -> "Item":
        return replace(self, properties=[*self.properties, *properties])

    def hide(self) -> "Item":
        return replace(self, is_hidden=True)

    def refer(self, kind: bytes, *ids: int) -> "Item":
        return replace(self, references=[*self.references, (kind, ids)])


def turn_boxes(orientation: int) -> list[bytes]:
    """Return the boxes that make an image upright which is stored with an orientation of Exif."""
    turns, mirror = _TURNS[orientation]
    turned = [box(b"irot", bytes([turns]))] if turns else []
    return turned if mirror is None else [*turned, box(b"imir", bytes([mirror]))]


def crop_box(size: tuple[int, int], left: int, top: int, whole: tuple[int, int]) -> bytes:
    """Return the box that cuts a part out of an image: its size, and twice the distance of the centres, over 2."""
    distances = (2 * left + size[0] - whole[0], 2, 2 * top + size[1] - whole[1], 2)
    return box(b"clap", struct.pack(">4I4i", size[0], 1, size[1], 1, *distances))


def alpha_box() -> bytes:
    return full_box(b"auxC", ALPHA)


def grid_item(columns: int, rows: int, size: tuple[int, int], tiles: Sequence[int]) -> Item:
    """Return an image of that size, put together from items of the same size, row by row."""
    data = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)
    return Item(b"grid", data, [size_box(*size)], [(b"dimg", tiles)])


def exif_item(exif: bytes, image: int) -> Item:
    """Return Exif metadata of an image, with the prefix that phones write."""
    return Item(b"Exif", struct.pack(">I", 6) + b"Exif\0\0" + exif, (), [(b"cdsc", [image])])


def build_heif(brand: bytes, items: Sequence[Item], *, primary: int = 1, compatible: bytes = b"mif1miaf") -> bytes:
    """Return a file of these items."""
    head = box(b"ftyp", brand, bytes(4), brand, compatible)
    # The places are known when the length of the boxes before them is.
    start = len(head) + len(_describe(items, primary, 0)) + 8
    return head + _describe(items, primary, start) + box(b"mdat", *(one.data for one in items if not one.is_inside))


def _describe(items: Sequence[Item], primary: int, start: int) -> bytes:
    handler = full_box(b"hdlr", bytes(4), b"pict", bytes(13))
    entries = [
        full_box(b"infe", struct.pack(">HH4s", number, 0, item.kind), b"\0", version=2, flags=_HIDDEN * item.is_hidden)
        for number, item in enumerate(items, 1)
    ]
    references = [
        box(kind, struct.pack(f">HH{len(ids)}H", number, len(ids), *ids))
        for number, item in enumerate(items, 1)
        for kind, ids in item.references
    ]
    inside = b"".join(item.data for item in items if item.is_inside)
    return full_box(
        b"meta",
        handler,
        full_box(b"pitm", struct.pack(">H", primary)),
        _locate(items, start),
        full_box(b"iinf", struct.pack(">H", len(entries)), *entries),
        *([full_box(b"iref", *references)] if references else []),
        _list_properties(items),
        *([box(b"idat", inside)] if inside else []),
    )


def _locate(items: Sequence[Item], start: int) -> bytes:
    """Return the place of each item: in the file, or for a grid in the box `idat`, as phones write it."""
    rows, inside = [], 0
    for number, item in enumerate(items, 1):
        place = inside if item.is_inside else start
        rows.append(struct.pack(">HHHHII", number, item.is_inside, 0, 1, place, len(item.data)))
        inside += len(item.data) * item.is_inside
        start += len(item.data) * (not item.is_inside)
    return full_box(b"iloc", b"\x44\0", struct.pack(">H", len(items)), *rows, version=1)


def _list_properties(items: Sequence[Item]) -> bytes:
    """Return all properties, each once, and the associations of items with them."""
    shared = list(dict.fromkeys(one for item in items for one in item.properties))
    rows = []
    for number, item in enumerate(items, 1):
        places = bytes(
            (shared.index(one) + 1) | (0 if one[4:8] in _OPTIONAL else _ESSENTIAL) for one in item.properties
        )
        if places:
            rows.append(struct.pack(">HB", number, len(places)) + places)
    association = full_box(b"ipma", struct.pack(">I", len(rows)), *rows)
    return box(b"iprp", box(b"ipco", *shared), association)


def read_image(data: bytes, kind: bytes) -> Item:
    """Return the coded image of a file that an encoder wrote, without what turns it.

    Args:
        kind: av01 or hvc1; the first item counts, whose bytes begin the file's data.
    """
    config = b"av1C" if kind == b"av01" else b"hvcC"
    boxes = list(_walk(data))
    properties = [
        next(content for name, content in boxes if name == wanted)
        for wanted in (config, b"ispe", b"pixi", b"colr", b"clap")
        if any(name == wanted for name, _ in boxes)
    ]
    (places,) = (content for name, content in boxes if name == b"iloc")
    offset, length = _read_place(places)
    return Item(kind, data[offset : offset + length], properties)


def _walk(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the bytes of each box, and of the boxes in it."""
    end = len(data) if end is None else end
    while start < end:
        length, kind = struct.unpack_from(">I4s", data, start)
        yield kind, data[start : start + length]
        if kind in _CONTAINERS:
            yield from _walk(data, start + 8 + _CONTAINERS[kind], start + length)
        start += length


def _read_place(places: bytes) -> tuple[int, int]:
    """Return the offset and the length of the first item, from a box of 4-byte offsets and lengths."""
    version, widths = places[8], places[12]
    assert widths == 0x44 and version in (0, 1), (version, widths)
    base_bytes = places[13] >> 4
    first = 16 + 2 + (2 if version == 1 else 0) + 2 + base_bytes + 2
    offset, length = struct.unpack_from(">II", places, first)
    base = int.from_bytes(places[first - 2 - base_bytes : first - 2], "big")
    return base + offset, length
