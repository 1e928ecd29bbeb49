"""Masks as PNG files, written from the runs of a label map: a mask costs what its outline is long, not its area.

A mask is two values in long runs, so there is nothing to search for: a run is a literal and copies of it, under one
Huffman code that suits every mask (RFC 1951).  Pure, no torch.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from worker.segmenter import LabelMap

_LONGEST_COPY = 258
_BLOCK_END = 256
# How long the codes are.  The longest copy is a single 0 bit, and so is its distance: what an even expanse is made of
# are zero bits, and those need no writing.
_CODE_LENGTHS = {285: 1, 0: 3, 255: 3, 256: 6, 257: 6, 258: 6, **dict.fromkeys(range(259, 285), 7)}
# The same for what tells these lengths; 18 stands for many symbols that never occur.
_TELLING_LENGTHS = {7: 2, 18: 2, 3: 2, 1: 3, 6: 3}
_TELLING_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
_MOST_NEVER = 138
_WIDEST_FIELD = 16
_ADLER = 65521

Bits = tuple[int, int]
"""A value whose lowest bit goes first, and how many bits it has."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Where in the rows of a label map, each with a 0 before it, which value begins and ends.

    starts, ends: (R,) int64, counted in bytes of an 8-bit PNG's data before compression.  owners: (R,) the values.
    """

    width: int
    height: int
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    owners: NDArray[np.generic]

    @classmethod
    def of(cls, label_map: LabelMap) -> Self:
        height, width = label_map.shape
        # PNG names each row's filter before it: 0 is none.
        rows = np.zeros((height, width + 1), label_map.dtype)
        rows[:, 1:] = label_map
        flat = rows.ravel()
        ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
        starts = np.append(0, ends[:-1])
        return cls(width, height, starts, ends, flat[starts])

    def mask_png(self, segment_id: int) -> bytes:
        """Return an 8-bit greyscale PNG of the map's size: 255 where it has this id (not 0), 0 elsewhere."""
        mine = self.owners == segment_id
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 0, 0, 0, 0)
        data = _deflated(self.starts[mine], self.ends[mine], self.height * (self.width + 1))
        return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _deflated(starts: NDArray[np.int64], ends: NDArray[np.int64], size: int) -> bytes:
    """Return `size` bytes in zlib's format: 255 from each start to its end, and 0 elsewhere.  The first is 0."""
    edges = np.append(np.stack([starts, ends], axis=1).ravel(), size)
    lengths = np.diff(edges, prepend=0)  # of zeros and of 255 in turn
    if not lengths[-1]:
        lengths = lengths[:-1]
    copies, rest = np.divmod(lengths - 1, _LONGEST_COPY)
    table = _fields()  # (2, 258, 2)
    fields = table[np.arange(lengths.size) % 2, rest]
    head, end = _header(), _end()
    # What lies between two fields are the longest copies, two zero bits each.
    places = head[1] + np.cumsum(fields[:, 1] + 2 * copies)
    bits = np.zeros(int(places[-1]) + _WIDEST_FIELD, np.uint8)
    bits[: head[1]] = _spread(head)
    bits[places[-1] : places[-1] + end[1]] = _spread(end)
    begins = np.append(head[1], places[:-1])
    for place in range(_WIDEST_FIELD):
        bits[begins + place] |= ((fields[:, 0] >> place) & 1).astype(np.uint8)
    block = np.packbits(bits[: places[-1] + end[1]], bitorder="little").tobytes()
    return b"\x78\x01" + block + struct.pack(">I", _adler32(starts, ends, size))


def _adler32(starts: NDArray[np.int64], ends: NDArray[np.int64], size: int) -> int:
    """Return the checksum of what _deflated() packs: a sum, and one in which earlier bytes count more often."""
    areas = ends - starts
    plain = 1 + 255 * int(areas.sum())
    weighted = size + 255 * int((areas * (2 * size - starts - ends + 1) // 2 % _ADLER).sum())
    return weighted % _ADLER << 16 | plain % _ADLER


@cache
def _fields() -> NDArray[np.int64]:
    """Return (2, 258, 2): for a run of zeros or of 255, longer than its longest copies by 1 to 258, value and width."""
    codes = _codes(_CODE_LENGTHS)
    return np.array([[_field(codes, value, rest) for rest in range(_LONGEST_COPY)] for value in (0, 255)])


def _field(codes: Mapping[int, Bits], value: int, rest: int) -> Bits:
    """Return a literal and a copy of `rest` more bytes; those that are too few for a copy are literals too."""
    if rest < 3:
        return _joined([codes[value]] * (1 + rest))
    symbol, first, extra = next(found for found in reversed(_copy_symbols()) if found[1] <= rest)
    distance = (0, 1)
    return _joined([codes[value], codes[symbol], (rest - first, extra), distance])


def _copy_symbols() -> list[tuple[int, int, int]]:
    """Return each symbol for a copy, the shortest length that it stands for, and how many bits tell the length."""
    symbols, first = [], 3
    for symbol in range(257, 285):
        extra = max(0, (symbol - 261) // 4)
        symbols.append((symbol, first, extra))
        first += 1 << extra
    return symbols


@cache
def _header() -> Bits:
    """Return what a block begins with: that it is the last one, and its codes."""
    telling = _codes(_TELLING_LENGTHS)
    used = sorted(_CODE_LENGTHS)
    told: list[Bits] = []
    for symbol, before in zip(used, [-1, *used[:-1]], strict=True):
        never = symbol - before - 1
        while never:
            told += [telling[18], (min(never, _MOST_NEVER) - 11, 7)]
            never -= min(never, _MOST_NEVER)
        told.append(telling[_CODE_LENGTHS[symbol]])
    only_distance = telling[1]
    lengths = [(_TELLING_LENGTHS.get(symbol, 0), 3) for symbol in _TELLING_ORDER]
    counts = [(286 - 257, 5), (1 - 1, 5), (len(_TELLING_ORDER) - 4, 4)]
    return _joined([(1, 1), (2, 2), *counts, *lengths, *told, only_distance])


@cache
def _end() -> Bits:
    """Return what a block ends with."""
    return _codes(_CODE_LENGTHS)[_BLOCK_END]


def _codes(lengths: Mapping[int, int]) -> dict[int, Bits]:
    """Return the canonical Huffman code of these lengths, with the highest bit of each code first in the stream."""
    codes, code, before = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in lengths.items()):
        code <<= length - before
        codes[symbol] = (int(f"{code:0{length}b}"[::-1], 2), length)
        code, before = code + 1, length
    return codes


def _joined(parts: Sequence[Bits]) -> Bits:
    value = width = 0
    for part, bits in parts:
        value |= part << width
        width += bits
    return value, width


def _spread(field: Bits) -> list[int]:
    return [field[0] >> place & 1 for place in range(field[1])]
