"""One line of text in any script: each part in a font that has its characters, and no boxes for those that none has."""

import functools
import unicodedata
from dataclasses import dataclass

from PIL import ImageDraw

from worker.formats.fonts import DEFAULT, covers, find_font, load_font

MISSING = "?"
# They shape what stands beside them, and are drawn as nothing.
_JOINERS = "\u200c\u200d"
# What is left out, and what normalization composes, may be this much of a text.
_MAX_RAW_FACTOR = 8


@dataclass(frozen=True, slots=True)
class Line:
    """A text as it is drawn.

    runs: from left to right, each a text and the file name of its font.
    size: of the fonts, in pixels.
    width: in pixels.
    """

    runs: tuple[tuple[str, str], ...]
    size: int
    width: float

    def draw(self, pen: ImageDraw.ImageDraw, x: float, baseline: float, fill: tuple[int, int, int, int]) -> None:
        """Draw it from `x` to the right."""
        for text, name in self.runs:
            font = load_font(name, self.size)
            pen.text((x, baseline), text, font=font, anchor="ls", fill=fill)
            x += font.getlength(text)


def clean_text(text: str, max_characters: int) -> str:
    """Return the beginning of a text without line breaks, controls and marks of direction; blanks become one space."""
    raw = unicodedata.normalize("NFC", " ".join(text[: _MAX_RAW_FACTOR * max_characters].split()))
    kept = "".join(character for character in raw if character in _JOINERS or not _is_invisible(character))
    return " ".join(kept.split())[:max_characters]


@functools.lru_cache(maxsize=1024)
def set_line(text: str, size: int) -> Line:
    """Choose fonts for a cleaned text, and measure it.

    A text that begins in a script from right to left has its runs in that order; within a run the layout engine orders
    and joins the characters (Pillow has one only if libfribidi is installed; without it they stand apart, in the order
    in which they are stored).
    """
    is_from_right = _begins_from_right(text)
    runs = [(_move_blanks(part, is_from_right=is_from_right), name) for part, name in split_runs(text)]
    if is_from_right:
        runs.reverse()
    width = sum(load_font(name, size).getlength(part) for part, name in runs)
    return Line(tuple(runs), size, width)


def split_runs(text: str) -> list[tuple[str, str]]:
    """Split a text into parts of one font each, in the order of the text; characters that no font has become one `?`.

    A font is kept as long as it has the next character, so that a space belongs to the word before.
    """
    runs: list[tuple[str, str]] = []
    was_missing = False
    for character in text:
        before = runs[-1][1] if runs else DEFAULT
        name = before if covers(before, character) else find_font(character)
        # A mark or a joiner is drawn on the character before it, by the same font or not at all.
        if _is_attached(character) and runs and (was_missing or name != before):
            continue
        if name:
            _append(runs, character, name)
        elif not was_missing:
            _append(runs, MISSING, DEFAULT)
        was_missing = name is None
    return runs


def _append(runs: list[tuple[str, str]], character: str, name: str) -> None:
    if runs and runs[-1][1] == name:
        runs[-1] = runs[-1][0] + character, name
    else:
        runs.append((character, name))


def _move_blanks(part: str, *, is_from_right: bool) -> str:
    """Return a run with the spaces after it before it, if it is read in the other direction than the line."""
    if _begins_from_right(part) is is_from_right:
        return part
    word = part.rstrip(" ")
    return " " * (len(part) - len(word)) + word


def _is_attached(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character).startswith("M")


def _is_invisible(character: str) -> bool:
    is_variation_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return is_variation_selector or unicodedata.category(character) in ("Cc", "Cf")


def _begins_from_right(text: str) -> bool:
    """Tell whether the first letter is of a script from right to left (UAX 9, rules P2 and P3)."""
    directions = (unicodedata.bidirectional(character) for character in text)
    return next((direction for direction in directions if direction in ("L", "R", "AL")), "L") != "L"
