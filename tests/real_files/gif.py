"""GIFs: still and animated, interlaced, transparent, with palettes of every kind; written block by block."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.real_files.files import RealFile, refuse, same, variants
from tests.real_files.photos import indexed_twin, palette_image, portrait, preview
from tests.support.images import encode

_END = b";"
_CLEAR_EVERY = 120  # codes, so that none is ever longer than nine bits
_INTERLACED = ((0, 8), (4, 8), (2, 4), (1, 2))  # GIF89a, appendix E: the first row and the step of each pass


@dataclass(frozen=True, slots=True)
class Frame:
    """Indexed samples of 8 bits, (H, W), and where they are on the canvas.

    palette: of the frame alone; empty if it uses that of the file.
    transparent: an index, or None.
    """

    samples: NDArray[np.uint8]
    left: int = 0
    top: int = 0
    palette: bytes = b""
    transparent: int | None = None
    is_interlaced: bool = False

    def encode(self) -> bytes:
        height, width = self.samples.shape
        key = self.transparent
        control = b"!\xf9\4" + struct.pack("<BHBB", key is not None, 10, key or 0, 0)
        flags = (0x87 if self.palette else 0) | (0x40 if self.is_interlaced else 0)
        head = b"," + struct.pack("<HHHHB", self.left, self.top, width, height, flags)
        return control + head + self.palette + b"\x08" + divide(compress(self._rows())) + b"\0"

    def _rows(self) -> bytes:
        passes = _INTERLACED if self.is_interlaced else ((0, 1),)
        return b"".join(self.samples[start::step].tobytes() for start, step in passes)


def compress(values: bytes) -> bytes:
    """Return the values as codes of LZW, each of nine bits and of one value: a dictionary is never used."""
    codes: list[int] = []
    for start in range(0, len(values), _CLEAR_EVERY):
        codes += [256, *values[start : start + _CLEAR_EVERY]]
    codes.append(257)
    bits = np.unpackbits(np.array(codes, "<u2").view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")[:, :9]
    return np.packbits(bits, bitorder="little").tobytes()


def divide(data: bytes) -> bytes:
    """Return data in blocks of at most 255 bytes, each with its length before it."""
    parts = (data[start : start + 255] for start in range(0, len(data), 255))
    return b"".join(bytes([len(part)]) + part for part in parts)


def write(*frames: Frame, size: tuple[int, int], palette: bytes, version: bytes = b"89a", background: int = 0) -> bytes:
    flags = 0xF7 if palette else 0x70
    head = b"GIF" + version + struct.pack("<HHBBB", *size, flags, background, 0)
    return head + palette + b"".join(frame.encode() for frame in frames) + _END


def colours(image: Image.Image) -> bytes:
    """Return a palette of 256 colours."""
    return bytes(image.getpalette() or []).ljust(768, b"\0")


def first(**changes: object) -> Frame:
    return replace(Frame(np.asarray(palette_image())), **changes)


def photo(*more: Frame, version: bytes = b"89a", **changes: object) -> bytes:
    """Return the portrait as the first frame, with some fields changed."""
    return write(first(**changes), *more, size=portrait().size, palette=colours(palette_image()), version=version)


def second() -> Frame:
    """Return another photo with a palette of its own."""
    other = preview().quantize(256)
    return Frame(np.asarray(other), 20, 20, palette=colours(other))


def build_without_common_palette() -> bytes:
    return write(first(palette=colours(palette_image())), second(), size=portrait().size, palette=b"")


def build_with_own_palette() -> bytes:
    """Return a file whose common palette is not that of its only frame."""
    own = colours(palette_image())
    return write(first(palette=own), size=portrait().size, palette=own[::-1])


def smaller_frame() -> bytes:
    """Return a canvas on which the first frame leaves a margin: 16 pixels left and above, 8 right and below."""
    width, height = portrait().size
    return write(first(left=16, top=16), size=(width + 24, height + 24), palette=colours(palette_image()), background=7)


def smaller_twin() -> Image.Image:
    """Return what browsers show behind alpha, as the reference reads it: the margin has the palette's first colour."""
    width, height = portrait().size
    canvas = Image.new("RGB", (width + 24, height + 24), tuple(colours(palette_image())[:3]))
    canvas.paste(indexed_twin(), (16, 16))
    return canvas


def build_with_comments() -> bytes:
    """Return a file with a comment and an application's block before its frame."""
    data = photo()
    start = 13 + 768
    extensions = b"!\xfe" + divide(b"a comment " * 1000) + b"\0" + b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"
    return data[:start] + extensions + data[start:]


FILES: Sequence[RealFile] = (
    same("still", photo, indexed_twin),
    same("interlaced", lambda: photo(is_interlaced=True), indexed_twin),
    same("a transparent colour", lambda: photo(transparent=100), indexed_twin),
    same("an animation", lambda: photo(second()), indexed_twin),
    same("a first frame smaller than the canvas", smaller_frame, smaller_twin),
    *variants(
        same("palettes of the frames", build_without_common_palette, indexed_twin),
        same("of the year 1987", lambda: photo(version=b"87a"), indexed_twin),
        same("a palette that is not used", build_with_own_palette, indexed_twin),
        same("comments", build_with_comments, indexed_twin),
        same("data behind the end", lambda: photo() + bytes(1000), indexed_twin),
        same("as Pillow writes it", lambda: encode(palette_image(16), "GIF"), lambda: indexed_twin(16)),
    ),
    refuse("its first half", "stops before its end", lambda: photo()[: len(photo()) // 2]),
)
