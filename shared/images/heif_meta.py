"""The items of a HEIF file (ISO/IEC 23008-12): where their data is, what they are made of, and their properties.

Each table of the file is visited once, and only what is said of an item that is asked for is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared.errors import ImageTooCostly
from shared.images.isobmff import Box, Cursor, iterate_boxes, list_children
from shared.images.structure import excess_error, malformed_error, truncated_error

MAX_ITEMS = 4_000
MAX_EXTENTS = 1_000  # of an item
MAX_PROPERTIES = 64  # of an item; encoders give it about five
# Of all tiles together: encoders write one part for each, and about five properties.
MAX_TILE_EXTENTS = 16_000
MAX_TILE_PROPERTIES = 8 * MAX_ITEMS
MAX_ASSOCIATION_TABLES = 4  # one for each combination of version and flags (ISO/IEC 14496-12, 8.11.14)
_IN_FILE, _IN_META = 0, 1  # where the data of an item is: its construction method


@dataclass(frozen=True, slots=True)
class Location:
    """Where in a file the table says where the data of an item is.

    offset_bytes, length_bytes, index_bytes: of the numbers in each extent.
    """

    position: int
    end: int
    method: int
    base: int
    extents: int
    offset_bytes: int
    length_bytes: int
    index_bytes: int


@dataclass(frozen=True, slots=True)
class Associations:
    """Where in a file the properties of an item are listed."""

    position: int
    end: int
    count: int
    is_wide: bool


@dataclass(frozen=True, slots=True)
class Property:
    """A property of an item; a reader that does not know an essential one must not show the item."""

    box: Box
    is_essential: bool


@dataclass(frozen=True, slots=True)
class Meta:
    """The tables of a file, by item."""

    data: bytes
    primary: int
    kinds: Mapping[int, bytes]
    locations: Mapping[int, Location]
    properties: tuple[Box, ...]
    associations: Mapping[int, Associations]
    references: Box | None
    own_data: Box | None

    def list_properties(self, item: int) -> list[Property]:
        """Return the properties of an item, in the order in which they apply.

        Raises:
            NotAnImage: it has one that the file does not have.
            ImageTooCostly: it has too many.
        """
        found = self.associations.get(item)
        if found is None:
            return []
        if found.count > MAX_PROPERTIES:
            raise excess_error("HEIC or AVIF", MAX_PROPERTIES, "properties of an item")
        cursor, nbytes = Cursor(self.data, found.position, found.end), 2 if found.is_wide else 1
        return [self._get_property(cursor.take(nbytes), 8 * nbytes - 1) for _ in range(found.count)]

    def list_extents(self, item: int) -> tuple[tuple[int, int], ...]:
        """Return where the parts of an item's data start and end.

        Raises:
            NotAnImage: it has no data, or that is in another file or item.
            TruncatedImage: the file stops before its end.
            ImageTooCostly: there are too many parts.
        """
        location = self.locations.get(item)
        if location is None or location.method not in (_IN_FILE, _IN_META) or not location.extents:
            raise malformed_error("HEIC or AVIF")
        if location.extents > MAX_EXTENTS:
            raise excess_error("HEIC or AVIF", MAX_EXTENTS, "parts of an item")
        cursor = Cursor(self.data, location.position, location.end)
        return tuple(self._read_extent(cursor, location) for _ in range(location.extents))

    def check_tiles(self, items: Sequence[int]) -> None:
        """Check that what is said of the tiles of a grid can be read in milliseconds, before any of it is read.

        Raises:
            ImageTooCostly: a tile is named twice, or all together have too many parts or properties.
        """
        if len(set(items)) < len(items):
            raise ImageTooCostly("The HEIC or AVIF image has a tile in several places; save it anew")
        if sum(self.locations[item].extents for item in items if item in self.locations) > MAX_TILE_EXTENTS:
            raise excess_error("HEIC or AVIF", MAX_TILE_EXTENTS, "parts of tiles")
        if sum(self.associations[item].count for item in items if item in self.associations) > MAX_TILE_PROPERTIES:
            raise excess_error("HEIC or AVIF", MAX_TILE_PROPERTIES, "properties of tiles")

    def list_parts(self, item: int) -> list[int]:
        """Return the items of which a derived one is made, in order.

        Raises:
            NotAnImage: the references go beyond their boxes.
            ImageTooCostly: there are too many.
        """
        if self.references is None:
            return []
        version, _, _ = self.references.read_full(self.data)
        nbytes = 4 if version else 2
        for box in list_children(self.data, self.references, skipped=4):
            cursor = box.read(self.data)
            if box.kind == b"dimg" and cursor.take(nbytes) == item:
                count = cursor.take(2)
                if count > MAX_ITEMS:
                    raise excess_error("HEIC or AVIF", MAX_ITEMS, "tiles")
                return [cursor.take(nbytes) for _ in range(count)]
        return []

    def _get_property(self, association: int, bits: int) -> Property:
        is_essential, number = bool(association >> bits), association & (1 << bits) - 1
        if not 0 < number <= len(self.properties):
            raise malformed_error("HEIC or AVIF")
        return Property(self.properties[number - 1], is_essential)

    def _read_extent(self, cursor: Cursor, location: Location) -> tuple[int, int]:
        cursor.skip(location.index_bytes)
        start = location.base + cursor.take(location.offset_bytes)
        end = start + cursor.take(location.length_bytes)
        if location.method == _IN_META:
            if self.own_data is None or end > self.own_data.end - self.own_data.content:
                raise malformed_error("HEIC or AVIF")
            start, end = start + self.own_data.content, end + self.own_data.content
        if end > len(self.data):
            raise truncated_error("HEIC or AVIF")
        if start == end:
            raise malformed_error("HEIC or AVIF")
        return start, end


def read_meta(data: bytes) -> Meta | None:
    """Read the tables of a file; None if it has none, as a film has none.

    Raises:
        NotAnImage, TruncatedImage: they cannot be read.
        ImageTooCostly: they are too long.
    """
    meta = _find_meta(data)
    if meta is None:
        return None
    boxes: dict[bytes, Box] = {}
    for box in list_children(data, meta, skipped=4):
        boxes.setdefault(box.kind, box)
    properties: dict[bytes, list[Box]] = {}
    for box in list_children(data, _need(boxes, b"iprp")):
        properties.setdefault(box.kind, []).append(box)
    tables = properties.get(b"ipma", [])
    if len(tables) > MAX_ASSOCIATION_TABLES:
        raise excess_error("HEIC or AVIF", MAX_ASSOCIATION_TABLES, "tables of properties")
    return Meta(
        data,
        _read_primary(data, _need(boxes, b"pitm")),
        dict(_iterate_kinds(data, _need(boxes, b"iinf"))),
        dict(_iterate_locations(data, _need(boxes, b"iloc"))),
        tuple(box for parent in properties.get(b"ipco", [])[:1] for box in list_children(data, parent)),
        {item: one for box in tables for item, one in _iterate_associations(data, box)},
        boxes.get(b"iref"),
        boxes.get(b"idat"),
    )


def _find_meta(data: bytes) -> Box | None:
    """Return the box with the tables.  What a phone appends to the boxes of a file is not looked at."""
    kinds = set()
    for box in iterate_boxes(data, 0, len(data)):
        kinds.add(box.kind)
        if box.end > len(data) and b"moov" not in kinds:
            raise truncated_error("HEIC or AVIF")
        if box.kind == b"meta":
            return box
    if b"moov" in kinds:
        return None
    raise truncated_error("HEIC or AVIF") if kinds <= {b"ftyp", b"free", b"mdat"} else malformed_error("HEIC or AVIF")


def _need(boxes: Mapping[bytes, Box], kind: bytes) -> Box:
    if kind not in boxes:
        raise malformed_error("HEIC or AVIF")
    return boxes[kind]


def _read_primary(data: bytes, box: Box) -> int:
    version, _, cursor = box.read_full(data)
    return cursor.take(4 if version else 2)


def _iterate_kinds(data: bytes, box: Box) -> Iterator[tuple[int, bytes]]:
    version, _, cursor = box.read_full(data)
    cursor.skip(4 if version else 2)
    for entry in list_children(data, box, skipped=cursor.position - box.content):
        entry_version, _, fields = entry.read_full(data)
        if entry.kind == b"infe" and entry_version in (2, 3):
            item = fields.take(2 if entry_version == 2 else 4)
            fields.skip(2)  # protection
            start = fields.position
            fields.skip(4)
            yield item, data[start : start + 4]


def _iterate_locations(data: bytes, box: Box) -> Iterator[tuple[int, Location]]:
    version, _, cursor = box.read_full(data)
    sizes = cursor.take(2)
    offset_bytes, length_bytes, base_bytes = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_bytes = sizes & 15 if version in (1, 2) else 0
    id_bytes = 2 if version < 2 else 4
    for _ in range(_count(cursor, id_bytes)):
        item = cursor.take(id_bytes)
        method = cursor.take(2) & 15 if version in (1, 2) else _IN_FILE
        method = -1 if cursor.take(2) else method  # a reference to another file
        base, extents = cursor.take(base_bytes), cursor.take(2)
        start = cursor.position
        cursor.skip(extents * (index_bytes + offset_bytes + length_bytes))
        yield item, Location(start, box.end, method, base, extents, offset_bytes, length_bytes, index_bytes)


def _iterate_associations(data: bytes, box: Box) -> Iterator[tuple[int, Associations]]:
    version, flags, cursor = box.read_full(data)
    is_wide = bool(flags & 1)
    for _ in range(_count(cursor, 4)):
        item, count = cursor.take(4 if version else 2), cursor.take(1)
        start = cursor.position
        cursor.skip(count * (2 if is_wide else 1))
        yield item, Associations(start, box.end, count, is_wide)


def _count(cursor: Cursor, nbytes: int) -> int:
    count = cursor.take(nbytes)
    if count > MAX_ITEMS:
        raise excess_error("HEIC or AVIF", MAX_ITEMS, "items")
    return count
