"""A reader of Label Studio's brush masks, from the description of their encoding: rle-pack of thi.ng/umbrella."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def decode_brush(content: Sequence[int]) -> NDArray[np.uint8]:
    """Return the values of all channels of all pixels, flattened."""
    bits = "".join(f"{byte:08b}" for byte in content)
    place = 0

    def read(width: int) -> int:
        nonlocal place
        place += width
        return int(bits[place - width : place], 2)

    count, word_bits = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values, lengths, decoded = [], [], 0
    while decoded < count:
        is_run = read(1)
        length = 1 + read(sizes[read(2)])
        for _ in range(1 if is_run else length):
            values.append(read(word_bits))
            lengths.append(length if is_run else 1)
        decoded += length
    return np.repeat(np.array(values, np.uint8), lengths)
