"""Labels in any script: glyphs instead of boxes, in the order and the form of their script."""

import os
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, features

from worker.formats.fonts import covers, find_font, list_fonts, load_font
from worker.formats.text import MISSING, clean_text, set_line, split_runs

SIZE = 28
WORDS = {
    "Amharic": "ድመት",
    "Arabic": "قطة",
    "Armenian": "կատու",
    "Bengali": "বিড়াল",
    "Burmese": "ကြောင်",
    "Chinese, simplified": "交通信号灯",
    "Chinese, traditional": "紅綠燈與貓",
    "Cyrillic": "кошка їжак",
    "Dhivehi": "ދިވެހި",
    "Georgian": "კატა",
    "Greek": "γάτα",
    "Gujarati": "બિલાડી",
    "Hebrew": "חתול",
    "Hindi": "बिल्ली",
    "Japanese": "ネコと自転車",
    "Kannada": "ಬೆಕ್ಕು",
    "Khmer": "ឆ្មា",
    "Korean": "고양이 신호등",
    "Lao": "ແມວ",
    "Malayalam": "പൂച്ച",
    "Odia": "ବିଲେଇ",
    "Persian": "گربه",
    "Polish": "żółć ąę",
    "Punjabi": "ਬਿੱਲੀ",
    "Sinhala": "බළලා",
    "Tamil": "பூனை",
    "Telugu": "పిల్లి",
    "Thai": "แมวนั่งบนเก้าอี้",
    "Urdu": "بلی ٹریفک",
    "Vietnamese": "tiếng Việt",
}

has_layout_engine = pytest.mark.skipif(
    not features.check("raqm") and "CI" not in os.environ, reason="libfribidi is not installed"
)


def draw(text: str) -> NDArray[np.uint8]:
    """Return (h, w) uint8: a text in white on black."""
    image = Image.new("RGB", (700, 2 * SIZE))
    pen = ImageDraw.Draw(image, "RGBA")
    set_line(clean_text(text, 40), SIZE).draw(pen, 10, 1.4 * SIZE, fill=(255, 255, 255, 255))
    return np.asarray(image.convert("L"))


def draw_glyph(name: str, character: str) -> bytes:
    mask = load_font(name, SIZE).getmask(character)
    return bytes(mask)


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_every_character_of_a_script_has_a_glyph(word: str) -> None:
    runs = split_runs(word)
    letters = [(name, letter) for text, name in runs for letter in text if unicodedata.category(letter).startswith("L")]

    assert "".join(text for text, _ in runs) == word
    # What a font draws for a character that it has not.
    boxes = {name: draw_glyph(name, "\U0010ffff") for _, name in runs}
    assert letters
    assert all(any(glyph := draw_glyph(name, letter)) and glyph != boxes[name] for name, letter in letters)
    assert draw(word).max() == 255


def test_a_font_has_the_characters_that_it_says() -> None:
    for name in list_fonts():
        box = draw_glyph(name, "\U0010ffff")
        known = [chr(code) for code in range(0x21, 0xFFFF, 17) if covers(name, chr(code))]
        assert any(box)
        assert not any(covers(name, character) for character in "\ue000\U0010ffff\u0378")
        assert [character for character in known if draw_glyph(name, character) == box] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat 95%", ["cat 95%"]),
        ("猫cat แมว 95%", ["猫", "cat ", "แมว ", "95%"]),
        # The order is from left to right.
        ("قطة 95%", ["95%", "قطة "]),
        ("سيارة BMW حمراء", ["حمراء", " BMW", "سيارة "]),
        ("cat قطة 95%", ["cat ", " قطة", "95%"]),
    ],
)
def test_a_label_may_mix_scripts(text: str, expected: list[str]) -> None:
    assert [part for part, _ in set_line(text, SIZE).runs] == expected


@has_layout_engine
def test_letters_are_joined_and_ordered_as_their_script_is_written() -> None:
    word, letters = "قطة", "ق ط ة"

    # The first letter has its form at the beginning of a word, and stands at the right end.
    assert set_line(word, SIZE).width < set_line(letters, SIZE).width - 2 * set_line(" ", SIZE).width
    right_end = draw(word)[:, np.flatnonzero(draw(word).any(axis=0))[-1]]
    assert right_end.any()
    assert not np.array_equal(draw(word), draw(word[::-1]))
    # A sign before the letter that it is stored after.
    assert set_line("कि", SIZE).width < set_line("क", SIZE).width + set_line("◌ि", SIZE).width


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("🐱🐱🐱 cat", "? cat"),
        ("👩\u200d👩\u200d👧\ufe0f", "?"),
        ("\ue000\ue001\u0378x", "?x"),
        ("\ud800", "?"),
        ("a\x00\x07\u202eb\u200b\nc\u2028d", "ab c d"),
        ("e\u0301", "é"),
        ("1\ufe0f\u20e3", "1"),
        ("猫\u0301", "猫"),
        ("\u1112\u1161\u11ab", "한"),
        ("", ""),
        ("\u0000", ""),
    ],
)
def test_what_has_no_glyph_is_one_sign_or_nothing(label: str, expected: str) -> None:
    assert "".join(text for text, _ in split_runs(clean_text(label, 28))) == expected


@pytest.mark.parametrize("label", ["z\u0351" * 1000, "猫" * 100_000, " " * 100_000 + "x", "\u200d" * 1000, "🐱" * 1000])
def test_a_long_label_is_cut(label: str) -> None:
    assert len(clean_text(label, 28)) <= 28


def test_only_the_beginning_of_a_long_label_is_looked_at() -> None:
    assert clean_text(" " * 100_000 + "x", 28) == ""


@given(st.text(max_size=60))
def test_any_label_is_drawn_without_a_box(label: str) -> None:
    text = clean_text(label, 28)
    line = set_line(text, 11)

    assert len(text) <= 28
    assert all(covers(name, character) for part, name in line.runs for character in part)
    assert line.width < 28 * 6 * 11
    line.draw(ImageDraw.Draw(Image.new("RGB", (60, 20)), "RGBA"), 0, 15, fill=(255, 255, 255, 255))


def test_a_missing_character_has_a_sign_that_the_first_font_has() -> None:
    assert find_font(MISSING) == list_fonts()[0]
