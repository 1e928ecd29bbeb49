"""How a grey image stores its brightness, if not as 8 unsigned bits a pixel.  No numpy here."""

from dataclasses import dataclass
from typing import Literal

SampleKind = Literal["u", "i", "f"]  # unsigned and signed integers, floating point; as numpy writes them


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one channel of brightness.

    bits: of one sample.
    low, high: values that the file declares as those of black and white; None if it does not.
    is_inverted: the lowest value is white.
    no_data: the sample of pixels of which nothing is known; None if the file declares none.
    per_pixel: how many a pixel has in memory; the first is the brightness.
    """

    kind: SampleKind
    bits: int
    low: float | None = None
    high: float | None = None
    is_inverted: bool = False
    no_data: float | None = None
    per_pixel: int = 1
