"""The form of a real file: how it is built, and what the service must make of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from tests.support.images import encode

EXACT = 0.999  # of the pixels of a label map: a batch of another size changes the last bits of a score
CLOSE = 0.985  # where two right decoders differ by one in a value; wrong pixels agree on less than 0.95


@dataclass(frozen=True, slots=True)
class Same:
    """The file has the label map of its twin.

    twin: makes the content as an upright RGB image of 8 bits.
    min_share: of the pixels that have the same class in both label maps.
    """

    twin: Callable[[], Image.Image]
    min_share: float = EXACT


@dataclass(frozen=True, slots=True)
class Refused:
    """The file is refused with a status and a sentence that has these words, in any case."""

    words: str
    status: int = 400


@dataclass(frozen=True, slots=True)
class RealFile:
    """One file; it is built when it is sent.

    is_variant: much like another file, so that it is only decoded, and not sent through the whole service.
    """

    name: str
    build: Callable[[], bytes]
    expected: Same | Refused
    is_variant: bool = False


def same(name: str, build: Callable[[], bytes], twin: Callable[[], Image.Image], min_share: float = EXACT) -> RealFile:
    return RealFile(name, build, Same(twin, min_share))


def refuse(name: str, words: str, build: Callable[[], bytes], status: int = 400) -> RealFile:
    return RealFile(name, build, Refused(words, status))


def variants(*files: RealFile) -> Sequence[RealFile]:
    """Return files of which others of the table are examples."""
    return [replace(one, is_variant=True) for one in files]


def encode_plainly(image: Image.Image) -> bytes:
    """Return an RGB image as a PNG of 8 bits, without metadata."""
    return encode(image, "PNG")
