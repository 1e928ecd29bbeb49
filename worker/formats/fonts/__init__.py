"""Noto Sans, a file for each script, and which characters each has.

The files are made by deploy/dev/fonts.py; their licence is in OFL.txt.
"""

import functools
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

FOLDER = Path(__file__).parent
# Latin, Greek, Cyrillic, and what belongs to no script: it is looked at first.
DEFAULT = "NotoSans.ttf"
_MAX_LOADED = 64


@dataclass(frozen=True, slots=True)
class Coverage:
    """The characters of a font: firsts and lasts (N,) of ranges of code points, sorted, both inclusive."""

    firsts: NDArray[np.uint32]
    lasts: NDArray[np.uint32]

    def __contains__(self, character: str) -> bool:
        index = int(np.searchsorted(self.firsts, ord(character), side="right")) - 1
        return index >= 0 and bool(ord(character) <= self.lasts[index])


@functools.lru_cache(maxsize=_MAX_LOADED)
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font at a size in pixels; `name` is one that find_font() has returned."""
    return ImageFont.truetype(FOLDER / name, size)


def covers(name: str, character: str) -> bool:
    return character in _read_coverage(name)


@functools.lru_cache(maxsize=4096)
def find_font(character: str) -> str | None:
    """Return the file name of the first font that has a character, or None if none has."""
    return next((name for name in list_fonts() if covers(name, character)), None)


@functools.cache
def list_fonts() -> tuple[str, ...]:
    """Return the file names of all fonts, DEFAULT first."""
    names = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".ttf", ".otf"))
    return (DEFAULT, *(name for name in names if name != DEFAULT))


@functools.cache
def _read_coverage(name: str) -> Coverage:
    """Read the table of characters: `cmap` of OpenType with one subtable, of format 12."""
    content = (FOLDER / name).read_bytes()
    (count,) = struct.unpack_from(">4xH", content)
    tables = (struct.unpack_from(">4s4xII", content, 12 + 16 * index) for index in range(count))
    table = next(offset for tag, offset, _ in tables if tag == b"cmap")
    (subtable,) = struct.unpack_from(">8xI", content, table)
    format_number, groups = struct.unpack_from(">H10xI", content, table + subtable)
    if format_number != 12:
        raise ValueError(f"{name} has a table of characters of format {format_number}")
    ranges = np.frombuffer(content, ">u4", 3 * groups, table + subtable + 16).reshape(groups, 3)
    return Coverage(ranges[:, 0].astype(np.uint32), ranges[:, 1].astype(np.uint32))
