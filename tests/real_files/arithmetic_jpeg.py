"""Writes JPEGs of arithmetic coding, which no encoder at hand does (ITU-T T.81, annexes D and F.1.4).

Each block of 8 x 8 pixels has one grey value, so that only the first coefficient of each is coded.
"""

import struct
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Table D.3: the probability of the less probable symbol, in 2^16ths, the next state after it and after the other
# symbol, and whether the two change their places.  A column for each, by the number of the state.
_PROBABILITIES = bytes.fromhex(
    "5a1d25861114080b03d801da00e5006f0036001a000d0006000300015a7f3f252cf2207c17b911820cef09a1072f055c0406030302400"
    "1b1014400f500b7008a0068004e003b002c5ae1484c3a0d2ef1261f1f3319a8151811770e740bfb09f80861070605cd04de040f036302d4"
    "025c01f801a40160012500f600cb00ab008f5b124d04412c37d82fe8293c23791edf1aa9174e1424119c0f6b0d510bb60a4058324d1c438e"
    "3bdd34ee2eae299a251655704ca944d93e22382432b42e1756a84f4647e541cf3c3d375e52314c0f4639415e562750e74b855597504f5a10"
    "552259eb"
)
_AFTER_LESS_PROBABLE = bytes.fromhex(
    "010e10121417191c1e2123090a0c0f242627282a2b2d2e303133343638393b3c3e3f20212540414344454648494a4b4d4e4f303232333435"
    "363738393a3b3d3d41505152535456575748484a4a4b4d4d5058595a5b5c5d56585f606163635d5f6566676863696a6b67696c6d6e6f6e70"
    "70"
)
# Most states are followed by the next one.
_AFTER_MORE_PROBABLE = {n: n + 1 for n in range(113)} | {13: 13, 35: 9, 63: 32, 79: 48, 87: 71, 94: 86, 100: 93}
_AFTER_MORE_PROBABLE |= {104: 99, 107: 103, 109: 107, 111: 109, 112: 111}
_EXCHANGED = frozenset({0, 14, 36, 64, 80, 88, 95, 105, 110, 112})
_LARGE = 1  # differences above are of a large category, as long as the file does not say otherwise (F.1.4.4.1.2)
_MAGNITUDES, _BITS = 20, 14  # bins of table F.4
_FIRST_END_OF_BLOCK = -1


@dataclass(slots=True)
class _Coder:
    """Codes binary decisions, each in a bin that adapts to those before it.

    low: the lower end of the interval, with 16 digits and one more for each time that it was doubled.
    """

    low: int = 0
    length: int = 1 << 16
    digits: int = 16
    bins: dict[int, tuple[int, int]] = field(default_factory=lambda: defaultdict(lambda: (0, 0)))

    def code(self, number: int, decision: int) -> None:
        """Code a decision of 0 or 1 in a bin (D.1.4 to D.1.6)."""
        state, probable = self.bins[number]
        (less,) = struct.unpack_from(">H", _PROBABILITIES, 2 * state)
        self.length -= less
        is_probable = decision == probable
        if is_probable and self.length >= 1 << 15:
            return
        # The shorter part of the interval is always that of the less probable symbol.
        if is_probable == (self.length < less):
            self.low += self.length
            self.length = less
        if not is_probable:
            probable ^= state in _EXCHANGED
        self.bins[number] = _AFTER_MORE_PROBABLE[state] if is_probable else _AFTER_LESS_PROBABLE[state], probable
        while self.length < 1 << 15:
            self.low, self.length, self.digits = self.low << 1, self.length << 1, self.digits + 1

    def finish(self) -> bytes:
        """Return the coded data; zeros are stuffed behind bytes that would begin a marker."""
        missing = -self.digits % 8
        data = (self.low << missing).to_bytes((self.digits + missing) // 8, "big")
        return data.replace(b"\xff", b"\xff\0")


def _code_difference(coder: _Coder, difference: int, context: int) -> int:
    """Code the difference of a block's first coefficient from the last one; return the context of the next."""
    coder.code(context, int(difference != 0))
    if difference == 0:
        return 0
    is_negative = difference < 0
    coder.code(context + 1, int(is_negative))
    rest, number = abs(difference) - 1, context + 2 + is_negative
    category = rest.bit_length()
    for place in range(category):
        coder.code(number, 1)
        number = _MAGNITUDES + place
    coder.code(number, 0)
    for place in reversed(range(category - 1)):
        coder.code(number + _BITS, rest >> place & 1)
    is_large = category > _LARGE
    return (12 if is_large else 4) + 4 * is_negative


def encode_blocks(values: NDArray[np.uint8]) -> bytes:
    """Return a grey JPEG with a block of 8 x 8 pixels for each value of (H, W)."""
    coder, last, context = _Coder(), 0, 0
    for value in values.ravel().tolist():
        # With a divisor of 8, the first coefficient is the value itself, from the middle of the range on.
        context = _code_difference(coder, value - 128 - last, context)
        last = value - 128
        coder.code(_FIRST_END_OF_BLOCK, 1)
    height, width = (8 * side for side in values.shape)
    return (
        b"\xff\xd8\xff\xdb\0\x43\0"
        + b"\x08" * 64
        + struct.pack(">BBHBHHBBBB", 0xFF, 0xC9, 11, 8, height, width, 1, 1, 0x11, 0)
        + b"\xff\xda\0\x08\1\1\0\0\x3f\0"
        + coder.finish()
        + b"\xff\xd9"
    )
