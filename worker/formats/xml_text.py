"""Text that XML 1.0 can hold.  Pure."""

import unicodedata
from typing import Final

REPLACEMENT: Final = "\ufffd"
_ALLOWED_CONTROLS: Final = "\t\n\r"
_NOT_CHARACTERS: Final = "\ufffe\uffff"


def clean_xml_text(text: str) -> str:
    """Replace what no XML document may hold, escaped or not (XML 1.0, section 2.2): controls, lone surrogates."""
    return "".join(character if _is_allowed(character) else REPLACEMENT for character in text)


def _is_allowed(character: str) -> bool:
    if character in _ALLOWED_CONTROLS:
        return True
    is_control = ord(character) < 0x20
    return not is_control and character not in _NOT_CHARACTERS and unicodedata.category(character) != "Cs"
