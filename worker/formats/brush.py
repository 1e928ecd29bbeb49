"""Label Studio's run-length encoding of brush masks.  Pure, no torch.

Source: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack, which Label Studio uses for RGBA images.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.formats.runs import Runs

_CHANNELS: Final = 4  # all four have the value of the mask
_WORD_BITS: Final = 8
_COUNT_BITS: Final = (3, 4, 8, 16)  # the four sizes that a run's length may be written in
_MAX_RUN: Final = 1 << _COUNT_BITS[-1]
_TOKEN_BITS: Final = 1 + 2 + _COUNT_BITS[-1] + _WORD_BITS  # of the longest token
_INSIDE: Final = 255


def encode_brush(runs: Runs, size: int) -> NDArray[np.uint8]:
    """Return the bytes of a mask: 255 inside the segment and 0 elsewhere.

    Args:
        size: pixels of the image.
    """
    counts = _CHANNELS * runs.count(size)
    values = np.where(np.arange(counts.size) % 2, _INSIDE, 0)
    lengths, values = _split(counts[counts > 0], values[counts > 0])
    bits = np.concatenate([_encode_header(_CHANNELS * size), _encode_tokens(lengths, values)])
    return np.packbits(bits)


def _split(counts: NDArray[np.int64], values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split runs that are longer than a token can say; only the last token of a run is shorter than that."""
    tokens = -(-counts // _MAX_RUN)
    lengths = np.full(int(tokens.sum()), _MAX_RUN)
    lengths[np.cumsum(tokens) - 1] = counts - (tokens - 1) * _MAX_RUN
    return lengths, np.repeat(values, tokens)


def _encode_header(words: int) -> NDArray[np.uint8]:
    fields = [(words, 32), (_WORD_BITS - 1, 5), *((bits - 1, 4) for bits in _COUNT_BITS)]
    text = "".join(f"{value:0{width}b}" for value, width in fields)
    return (np.frombuffer(text.encode(), np.uint8) - ord("0")).astype(np.uint8)


def _encode_tokens(lengths: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the bits of all tokens: 1 for a run, two bits for the size of its length, the length less 1, the value."""
    sizes = np.searchsorted([1 << bits for bits in _COUNT_BITS], lengths)
    count_bits = np.array(_COUNT_BITS)[sizes]
    tokens = (((1 << 2 | sizes) << count_bits | lengths - 1) << _WORD_BITS) | values
    widths = 3 + count_bits + _WORD_BITS
    places = np.arange(_TOKEN_BITS - 1, -1, -1)
    bits = (tokens[:, None] >> places).astype(np.uint8) & 1  # (tokens, _TOKEN_BITS), the highest bit first
    used: NDArray[np.uint8] = bits[places < widths[:, None]]
    return used
