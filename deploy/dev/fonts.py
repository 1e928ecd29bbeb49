"""Makes the fonts of the overlay's labels from Noto:  python -m deploy.dev.fonts FOLDER

FOLDER has the contents of Debian's packages fonts-noto-core and fonts-noto-cjk (`dpkg-deb -x`).  The results are
committed, so this is run only to change what they cover; decision 38 says why it is these.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTCollection, TTFont
from fontTools.ttLib.tables._c_m_a_p import CmapSubtable

TARGET = Path(__file__).resolve().parents[2] / "worker" / "formats" / "fonts"
CJK = "CJK"
# The first is for Latin, Greek, Cyrillic, and what belongs to no script.
SCRIPTS = (
    "",
    *("Arabic", "Armenian", "Bengali", "Devanagari", "Ethiopic", "Georgian", "Gujarati", "Gurmukhi", "Hebrew"),
    *("Kannada", "Khmer", "Lao", "Malayalam", "Myanmar", "Oriya", "Sinhala", "Tamil", "Telugu", "Thaana", "Thai"),
)
# The common characters of each language, as its national standard lists them: GB 2312, JIS X 0208, KS X 1001, Big5.
_CJK_ENCODINGS = ("gb2312", "shift_jis", "euc_kr", "big5")
# Big5 has its rarer half after these.
_BIG5_COMMON = b"\xc6\x7e"
_COLLECTION_INDEX = 2  # simplified Chinese
_SPACE, _FIRST_MARK, _FIRST_GREEK, _LAST_CYRILLIC = 0x20, 0x0300, 0x0370, 0x052F


def main() -> int:
    (source,) = map(Path, sys.argv[1:])
    for script in SCRIPTS:
        font = TTFont(find_file(source, f"NotoSans{script}-Regular.ttf"))
        known = font.getBestCmap()
        write(font, known if not script else filter(is_of_script, known), f"NotoSans{script}.ttf", features=["*"])
    font = TTCollection(find_file(source, "NotoSansCJK-Regular.ttc")).fonts[_COLLECTION_INDEX]
    write(font, filter(is_of_script, map(ord, set(list_common_characters()))), f"NotoSans{CJK}.otf", features=[])
    return 0


def find_file(folder: Path, name: str) -> Path:
    return next(folder.rglob(name))


def is_of_script(character: int) -> bool:
    """Tell whether a font of one script keeps a character; Latin, Greek, Cyrillic, digits and signs are of the first.

    Some fonts have digits and no percent sign: in two fonts, a number beside Arabic would be torn apart.
    """
    return character == _SPACE or (character >= _FIRST_MARK and not _FIRST_GREEK <= character <= _LAST_CYRILLIC)


def list_common_characters() -> Iterator[str]:
    """Yield the characters of the standards in _CJK_ENCODINGS, without the rarer half of Big5."""
    for encoding in _CJK_ENCODINGS:
        for lead in range(0x20, 0x100):
            for trail in range(0x40, 0x100):
                code = bytes([lead, trail])
                if encoding == "big5" and code > _BIG5_COMMON:
                    continue
                text = code.decode(encoding, errors="ignore")
                yield from text


def write(font: TTFont, characters: Iterable[int], name: str, *, features: list[str]) -> None:
    """Write the subset of a font, without instructions for low resolutions.

    worker/formats/fonts reads one format of the table of characters, and no other.
    """
    options = Options(hinting=False, layout_features=features, notdef_outline=True, name_IDs=[0, 1, 2, 5, 13, 14])
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=characters)
    subsetter.subset(font)
    font["cmap"].tables = [build_character_table(font.getBestCmap())]
    font.recalcTimestamp = False
    TARGET.mkdir(exist_ok=True)
    font.save(TARGET / name)


def build_character_table(glyphs: dict[int, str]) -> CmapSubtable:
    """Return a table of format 12 (groups of characters), for Windows and all of Unicode."""
    table = CmapSubtable.newSubtable(12)
    table.platformID, table.platEncID, table.language = 3, 10, 0
    table.cmap = glyphs
    return table


if __name__ == "__main__":
    sys.exit(main())
