"""The directory of a TIFF, which is also the form of Exif metadata: a table of tags.

Pillow makes Python objects of the tags that it uses, and of each strip of an uncompressed image.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import ImageTooCostly
from shared.images.structure import excess_error

MAX_ENTRIES = 1_000
MAX_EXIF_BYTES = 4_000_000
# Tags that Pillow reads as numbers when it opens a file, and how many values they may have.
_MAX_VALUES = dict.fromkeys(
    (254, 255, 256, 257, 258, 259, 262, 266, 274, 277, 278, 282, 283, 284, 296, 317, 322, 323, 338, 339), 64
) | {320: 3 * 65_536}
# XMP and the colour profile: bytes, which Pillow does not divide; as numbers they are not valid.
_BYTES = frozenset({700, 34675})
_BYTE_KINDS = frozenset({1, 2, 6, 7})
# By the type of a tag: SHORT, LONG, IFD, LONG8, IFD8; then those with a sign, and floating point.
_NUMBERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_REAL_NUMBERS = _NUMBERS | {1: "B", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 17: "q"}
_VALUE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_ASCII = 2
_ENTRY_BYTES = 12  # of a TIFF that is no BigTIFF
_BIG_VERSION = 43  # of a BigTIFF; 42 of a TIFF


@dataclass(frozen=True, slots=True)
class Entry:
    """A tag: its type, the number of its values, where they are in the file, and where the entry itself starts."""

    kind: int
    count: int
    position: int
    start: int

    @property
    def has_numbers(self) -> bool:
        """Whether its values are whole numbers."""
        return self.kind in _NUMBERS


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of a file.

    order: `<` or `>`, for struct.
    start, following: where it is, and where the next one of the chain is; 0 if there is none.
    """

    order: str
    entries: Mapping[int, Entry]
    start: int = 0
    following: int = 0

    def read_numbers(self, data: bytes, tag: int, at_most: int) -> tuple[int, ...]:
        """Return the first values of a tag that are whole numbers; none if it is missing or of another type.

        Raises:
            struct.error: the file stops before their end.
        """
        entry = self.entries.get(tag)
        if entry is None or not entry.has_numbers:
            return ()
        values = f"{self.order}{min(entry.count, at_most)}{_NUMBERS[entry.kind]}"
        return struct.unpack_from(values, data, entry.position)

    def read_number(self, data: bytes, tag: int, default: int = 0) -> int:
        """Return the first value of a tag, as read_numbers() does."""
        return next(iter(self.read_numbers(data, tag, 1)), default)

    def read_real(self, data: bytes, tag: int) -> float | None:
        """Return the first value of a tag that is a number of any type but a fraction; None if it is not one.

        Raises:
            struct.error: the file stops before its end.
        """
        entry = self.entries.get(tag)
        if entry is None or not entry.count or entry.kind not in _REAL_NUMBERS:
            return None
        value: float = struct.unpack_from(self.order + _REAL_NUMBERS[entry.kind], data, entry.position)[0]
        return value

    def read_text(self, data: bytes, tag: int, at_most: int) -> str:
        """Return the first characters of a tag that is text, up to its end; none if it is missing or of another type.

        Bytes that are no ASCII become replacement characters.
        """
        entry = self.entries.get(tag)
        if entry is None or entry.kind != _ASCII:
            return ""
        text = data[entry.position : entry.position + min(entry.count, at_most)]
        return text.partition(b"\0")[0].decode("ascii", "replace")


def read_directory(data: bytes, start: int | None = None) -> Directory:
    """Read the first directory of a TIFF or a BigTIFF, or the one at `start`.

    Raises:
        struct.error: the bytes stop before its end.
        ImageTooCostly: it has too many entries, or a tag that is one number has many.
    """
    position, pointer = locate_pointer(data)
    if start is None:
        (start,) = pointer.unpack_from(data, position)
    if start >= len(data):
        raise struct.error("no directory")
    order = pointer.format[0]
    head, entry = ("Q", "HHQQ") if pointer.size == 8 else ("H", "HHII")
    (count,) = struct.unpack_from(order + head, data, start)
    if count > MAX_ENTRIES:
        raise excess_error("TIFF or Exif", MAX_ENTRIES, "tags")
    first = start + struct.calcsize(order + head)
    layout = struct.Struct(order + entry)
    # The pointer to the next one may be missing at the end of Exif metadata.
    end = first + count * layout.size
    following = pointer.unpack_from(data, end)[0] if end + pointer.size <= len(data) else 0
    return Directory(order, _read_entries(data, first, count, layout), start, following)


def locate_pointer(data: bytes) -> tuple[int, struct.Struct]:
    """Return where the header of a TIFF or a BigTIFF says where its first directory is, and how pointers are packed."""
    order = "<" if data[:2] == b"II" else ">"
    return (8, struct.Struct(f"{order}Q")) if _BIG_VERSION in data[2:4] else (4, struct.Struct(f"{order}I"))


def check_exif(exif: bytes) -> None:
    """Check Exif metadata, without or with its prefix; if it cannot be read, Pillow ignores it.

    Raises:
        ImageTooCostly: it is too long, or has too many tags.
    """
    if len(exif) > MAX_EXIF_BYTES:
        raise ImageTooCostly(f"The image has more than {MAX_EXIF_BYTES} bytes of Exif metadata; save it without")
    try:
        read_directory(exif.removeprefix(b"Exif\x00\x00"))
    except struct.error:
        return


def _read_entries(data: bytes, start: int, count: int, layout: struct.Struct) -> Mapping[int, Entry]:
    entries: dict[int, Entry] = {}
    value_bytes = 4 if layout.size == _ENTRY_BYTES else 8
    for number in range(count):
        position = start + number * layout.size
        tag, kind, values, offset = layout.unpack_from(data, position)
        limit = 0 if tag in _BYTES and kind not in _BYTE_KINDS else _MAX_VALUES.get(tag, values)
        if values > limit:
            raise excess_error("TIFF or Exif", limit, f"values of the tag {tag}")
        is_inline = values * _VALUE_BYTES.get(kind, 1) <= value_bytes
        values_at = position + layout.size - value_bytes if is_inline else offset
        # The first of several entries with one tag counts.
        entries.setdefault(tag, Entry(kind, values, values_at, position))
    return entries
