"""Compressed bytes as unusual or hostile encoders make them."""

import gzip
import zlib


def deflate_bare(content: bytes) -> bytes:
    """Compress without the header and the checksum of zlib, as some clients do for `Content-Encoding: deflate`."""
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(content) + encoder.flush()


def build_members(count: int) -> bytes:
    """Return gzip of many members, none of which has content."""
    return gzip.compress(b"") * count


def build_empty_blocks(nbytes: int) -> bytes:
    """Return a bare deflate stream of blocks that have codes of their own but no content: the slowest to decompress."""
    bits = "".join(f"{value:0{count}b}"[::-1] for value, count in _EMPTY_BLOCK) * 8
    unit = bytes(int(bits[start : start + 8][::-1], 2) for start in range(0, len(bits), 8))
    return unit * (nbytes // len(unit))


# RFC 1951, section 3.2.7, by (value, bits): 257 literal codes and one distance code, described by 18 code lengths, of
# which those of 18 (a run of zeros) and 1 are used; 256 zeros, the end of the block, the distance; and the end itself.
_CODE_LENGTHS = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
_EMPTY_BLOCK = (
    *((0, 1), (2, 2), (0, 5), (0, 5), (14, 4)),
    *((1 if length in (1, 18) else 0, 3) for length in _CODE_LENGTHS),
    *((1, 1), (127, 7), (1, 1), (107, 7), (0, 1), (0, 1), (0, 1)),
)
