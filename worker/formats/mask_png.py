"""Masks as PNG files, encoded from the runs of a label map: the cost grows with a mask's outline, not with its area.

A mask consists of two values in long runs, so DEFLATE needs no search for matches: each run is one literal and matches
at distance 1, under one fixed choice of Huffman codes that suits every mask (RFC 1951, section 3.2.7, "compression with
dynamic Huffman codes"; RFC 1950 for the zlib stream around it).  Pure, no torch.
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

_MAX_MATCH_LENGTH = 258
_END_OF_BLOCK = 256
_MAX_LENGTH_SYMBOL = 285
# Code lengths of the literal/length alphabet in bits.  The longest match (symbol 285) and its distance have one zero
# bit each: a uniform area consists of these only, and zero bits need no writing.
_LITERAL_LENGTH_CODE_LENGTHS = {285: 1, 0: 3, 255: 3, 256: 6, 257: 6, 258: 6, **dict.fromkeys(range(259, 285), 7)}
# Code lengths of the code length alphabet, in which the lengths above are transmitted.
_CODE_LENGTH_CODE_LENGTHS = {7: 2, 18: 2, 3: 2, 1: 3, 6: 3}
# The order in which they are transmitted (RFC 1951, section 3.2.7).
_CODE_LENGTH_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
# Symbol 18 of the code length alphabet repeats a length of zero 11 to 138 times, in 7 extra bits.
_REPEAT_ZERO = 18
_MIN_ZERO_REPEAT = 11
_MAX_ZERO_REPEAT = 138
_ADLER_MODULUS = 65521

BitString = tuple[int, int]
"""A value, whose lowest bit is first in the stream, and its number of bits."""


@dataclass(frozen=True, slots=True)
class RunLengthEncoding:
    """The runs of equal values in the rows of a label map, each row with its PNG filter byte 0 in front.

    width, height: of the label map.
    starts, ends: (R,) int64, offsets into the uncompressed data of an 8-bit PNG; `ends` are exclusive.
    values: (R,) the value of each run.
    """

    width: int
    height: int
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    values: NDArray[np.generic]

    @classmethod
    def from_label_map(cls, label_map: LabelMap) -> Self:
        """Encode a label map (H, W)."""
        height, width = label_map.shape
        # The first byte of a row in PNG is its filter type: 0 is none.
        rows = np.zeros((height, width + 1), label_map.dtype)
        rows[:, 1:] = label_map
        flat = rows.ravel()
        ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
        starts = np.append(0, ends[:-1])
        return cls(width, height, starts, ends, flat[starts])

    def encode_mask_png(self, segment_id: int) -> bytes:
        """Return an 8-bit greyscale PNG of the map's size: 255 where the map has this id (not 0), 0 elsewhere."""
        is_segment = self.values == segment_id
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 0, 0, 0, 0)
        data = _compress(self.starts[is_segment], self.ends[is_segment], self.height * (self.width + 1))
        return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _compress(starts: NDArray[np.int64], ends: NDArray[np.int64], size: int) -> bytes:
    """Return a zlib stream of `size` bytes: 255 from each start to its end, and 0 elsewhere.

    The first byte is 0, because it is a filter type; so runs of 0 and of 255 alternate, beginning with 0.
    """
    edges = np.append(np.stack([starts, ends], axis=1).ravel(), size)
    run_lengths = np.diff(edges, prepend=0)
    if not run_lengths[-1]:
        run_lengths = run_lengths[:-1]
    longest_matches, remainders = np.divmod(run_lengths - 1, _MAX_MATCH_LENGTH)
    tokens = _build_tokens()[np.arange(run_lengths.size) % 2, remainders]  # (runs, 2)
    header, end_of_block = _encode_block_header(), _end_of_block()
    # Between two tokens lie the longest matches of a run, two zero bits each.
    places = header[1] + np.append(0, np.cumsum(tokens[:, 1] + 2 * longest_matches))
    block = _write_bits(np.append(tokens[:, 0], end_of_block[0]), places, int(places[-1]) + end_of_block[1])
    block |= np.frombuffer(header[0].to_bytes(block.size, "little"), np.uint8)
    return b"\x78\x01" + block.tobytes() + struct.pack(">I", _adler32(starts, ends, size))


def _write_bits(values: NDArray[np.int64], places: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Return `size` bits as bytes, the lowest bit of each first: each value from its place on, 0 elsewhere.

    Args:
        values: of at most 16 bits, which do not overlap, so adding them to a byte is the same as setting their bits.
    """
    shifted, first_bytes = values << (places & 7), places >> 3
    # A value of 16 bits touches three bytes.
    block = sum(
        np.bincount(first_bytes + byte, (shifted >> 8 * byte) & 255, minlength=(size >> 3) + 4) for byte in range(3)
    )
    return np.asarray(block)[: (size + 7) // 8].astype(np.uint8)


def _adler32(starts: NDArray[np.int64], ends: NDArray[np.int64], size: int) -> int:
    """Return the Adler-32 checksum (RFC 1950, section 8.2) of the data of _compress(), from its runs in closed form."""
    lengths = ends - starts
    low = 1 + 255 * int(lengths.sum())
    high = size + 255 * int((lengths * (2 * size - starts - ends + 1) // 2 % _ADLER_MODULUS).sum())
    return high % _ADLER_MODULUS << 16 | low % _ADLER_MODULUS


@cache
def _build_tokens() -> NDArray[np.int64]:
    """Return (2, 258, 2): bit string of a run of 0 or of 255 by its remainder, as a value and a number of bits.

    The remainder is the length of the run less 1 and less its longest matches: 0 to 257.
    """
    codes = _build_huffman_code(_LITERAL_LENGTH_CODE_LENGTHS)
    return np.array([[_encode_run(codes, value, rest) for rest in range(_MAX_MATCH_LENGTH)] for value in (0, 255)])


def _encode_run(codes: Mapping[int, BitString], literal: int, rest: int) -> BitString:
    """Return a literal and a match of `rest` more bytes; below the shortest match of 3 bytes they are literals too."""
    if rest < 3:
        return _concatenate([codes[literal]] * (1 + rest))
    symbol, base, extra_bits = next(row for row in reversed(_length_symbols()) if row[1] <= rest)
    distance = (0, 1)
    return _concatenate([codes[literal], codes[symbol], (rest - base, extra_bits), distance])


def _length_symbols() -> list[tuple[int, int, int]]:
    """Return length symbols below 285, their shortest matches and numbers of extra bits (RFC 1951, section 3.2.5)."""
    symbols, base = [], 3
    for symbol in range(257, _MAX_LENGTH_SYMBOL):
        extra_bits = max(0, (symbol - 261) // 4)
        symbols.append((symbol, base, extra_bits))
        base += 1 << extra_bits
    return symbols


@cache
def _encode_block_header() -> BitString:
    """Return the header of a final block with dynamic Huffman codes (RFC 1951, section 3.2.7)."""
    codes = _build_huffman_code(_CODE_LENGTH_CODE_LENGTHS)
    final_block, block_type = (1, 1), (2, 2)
    hlit = (_MAX_LENGTH_SYMBOL + 1 - 257, 5)
    hdist = (1 - 1, 5)  # one distance code, for distance 1
    hclen = (len(_CODE_LENGTH_ORDER) - 4, 4)
    code_length_lengths = [(_CODE_LENGTH_CODE_LENGTHS.get(symbol, 0), 3) for symbol in _CODE_LENGTH_ORDER]
    distance_lengths = [codes[1]]
    return _concatenate(
        [
            *(final_block, block_type, hlit, hdist, hclen),
            *code_length_lengths,
            *_encode_literal_length_lengths(codes),
            *distance_lengths,
        ]
    )


def _encode_literal_length_lengths(codes: Mapping[int, BitString]) -> list[BitString]:
    """Return the code lengths of the literal/length alphabet in the code length alphabet.

    Each gap of symbols that do not occur is long enough for _REPEAT_ZERO.
    """
    encoded: list[BitString] = []
    used = sorted(_LITERAL_LENGTH_CODE_LENGTHS)
    for symbol, previous in zip(used, [-1, *used[:-1]], strict=True):
        unused = symbol - previous - 1
        while unused:
            repeat = min(unused, _MAX_ZERO_REPEAT)
            encoded += [codes[_REPEAT_ZERO], (repeat - _MIN_ZERO_REPEAT, 7)]
            unused -= repeat
        encoded.append(codes[_LITERAL_LENGTH_CODE_LENGTHS[symbol]])
    return encoded


@cache
def _end_of_block() -> BitString:
    return _build_huffman_code(_LITERAL_LENGTH_CODE_LENGTHS)[_END_OF_BLOCK]


def _build_huffman_code(lengths: Mapping[int, int]) -> dict[int, BitString]:
    """Return the canonical Huffman code of these lengths (RFC 1951, section 3.2.2).

    The highest bit of a code is first in the stream, so each code is reversed.
    """
    codes, code, previous = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in lengths.items()):
        code <<= length - previous
        codes[symbol] = (int(f"{code:0{length}b}"[::-1], 2), length)
        code, previous = code + 1, length
    return codes


def _concatenate(parts: Sequence[BitString]) -> BitString:
    value = width = 0
    for part, bits in parts:
        value |= part << width
        width += bits
    return value, width
