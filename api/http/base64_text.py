"""Images in base64 (RFC 4648): every spelling that has one meaning; others are refused by name.  No Flask here."""

import binascii
import re
from urllib.parse import unquote_to_bytes

from api.http.not_images import explain_content, is_location
from api.quoting import quote
from shared.errors import EmptyBody, NotAnImage, UnreadableBody
from shared.images.formats import FORMATS, detect_image_format
from shared.images.refused import explain_refusal

BYTES_ONLY = "Send the image itself, as its bytes or as base64: no URL is fetched and no path is opened here."

_SPACE = b" \t\r\n\f\v"
# What quotes stand around a text: those of JSON or of a shell, or those of Python's text for bytes.
_QUOTED = re.compile(rb"""[bB]?(["'])""")
# Parameters may be in quotes, with a comma between them.  Possessive, so that no text takes longer than its length.
_DATA_URL = re.compile(rb'data:(?:[^,"]{1,500}+|"[^"]{0,500}+"){0,20}+,', re.IGNORECASE)
# Of URL encoding, what can stand in base64 or in a data URL.
_ESCAPES = ((b"+", b"%2B"), (b"/", b"%2F"), (b"=", b"%3D"), (b":", b"%3A"), (b";", b"%3B"), (b",", b"%2C"))
_LINE_ESCAPES = (b"%0D", b"%0A", b"%20")
# Of JSON and of Python, as a text has them that was escaped twice.
_BACKSLASHES = ((b"\\r", b""), (b"\\n", b""), (b"\\/", b"/"))
# It begins with what is rare, so that a search in megabytes takes little time.
_INNER_BLANK = re.compile(rb" (?<=[A-Za-z0-9/] ) {0,3}[A-Za-z0-9/=]")
_HEX = re.compile(rb"(0x)?([0-9a-fA-F]{64})")
_SHORT_BYTES = 64
_MIN_LINE_CHARACTERS = 60  # encoders make lines of 64 or 76
_HEAD_CHARACTERS = 16  # enough for the signature of an image


def decode_base64(text: bytes, where: str) -> bytes:
    """Return the bytes of an image in base64.

    Both alphabets are read, with or without padding, line breaks, a data URL's prefix, quotes, and URL encoding.

    Args:
        where: the place of the text, at the beginning of a sentence.

    Raises:
        EmptyBody: there is no text.
        UnreadableBody: it is not base64, or not with one meaning.
        NotAnImage: it is base64 of something else that is known.
    """
    inner = _remove_prefix(_unquote(text.strip()), where)
    # Of megabytes, what is the same is not copied.
    bare = inner.translate(None, _SPACE) if _has_any(inner, _SPACE) else inner
    packed = bare.rstrip(b"=")
    if not packed:
        raise EmptyBody(f"{where} is empty. {BYTES_ONLY}")
    if _has_lost_plus(inner):
        raise UnreadableBody(
            f"{where} has blanks where base64 has `+`, as after a form was decoded: URL-encode it, or send JSON"
        )
    try:
        is_padded = len(bare) == len(packed) + -len(packed) % 4
        image = _decode(bare if is_padded else packed)
    except binascii.Error as error:
        raise _explain_base64(packed, text, where) from error
    # Many paths consist of characters of base64 only.
    if detect_image_format(image) is None:
        _check_content(image, packed, text, where)
    return image


def _unquote(text: bytes) -> bytes:
    """Remove quotes around a text, and what JSON, Python or a URL escape in it."""
    quotes = _QUOTED.match(text)
    if quotes and text.endswith(quotes[1]) and len(text) > quotes.end():
        text = text[quotes.end() : -1]
    if b"\\" in text:
        for escape, character in _BACKSLASHES:
            text = text.replace(escape, character)
    if b"%" in text:
        for character, escape in (*_ESCAPES, *((b"", escape) for escape in _LINE_ESCAPES)):
            text = text.replace(escape, character).replace(escape.lower(), character)
    return text


def _remove_prefix(text: bytes, where: str) -> bytes:
    """Remove the prefix of a data URL (RFC 2397).

    Raises:
        UnreadableBody: it does not say that base64 follows.
    """
    prefix = _DATA_URL.match(text)
    if prefix is None:
        return text
    words = prefix[0][len(b"data:") : -1].translate(None, _SPACE).lower().split(b";")
    if b"base64" not in words:
        raise UnreadableBody(f"{where} is a data URL without base64: send `data:image/png;base64,` and the image in it")
    return text[prefix.end() :]


def _decode(packed: bytes) -> bytes:
    """Decode base64 that has all of its padding, or none.

    Raises:
        binascii.Error: it is not base64, or of both alphabets.
    """
    if _has_any(packed, b"-_") and not _has_any(packed, b"+/"):
        packed = packed.replace(b"-", b"+").replace(b"_", b"/")
    return binascii.a2b_base64(packed + b"=" * (-len(packed) % 4), strict_mode=True)


def _has_any(text: bytes, characters: bytes) -> bool:
    return any(character in text for character in characters)


def _has_lost_plus(text: bytes) -> bool:
    """Tell whether the blanks in a text were `+`, which has the same code in a URL-encoded form.

    Blanks may also have taken the place of line ends.
    """
    text = text.strip()
    if _has_any(text, b"+-_") or not _INNER_BLANK.search(text):
        return False
    return not _has_joined_lines(text) and _begins_image(
        text[:_HEAD_CHARACTERS].translate(None, b"\r\n").replace(b" ", b"+")
    )


def _has_joined_lines(text: bytes) -> bool:
    """Tell whether the blanks in base64 stand between lines of one length, and without them none is missing."""
    width = text.index(b" ")
    separators = text[width :: width + 1]
    return (
        width >= _MIN_LINE_CHARACTERS
        and width % 4 == 0
        and separators.count(b" ") == len(separators) == text.count(b" ")
        and len(text.translate(None, _SPACE)) % 4 == 0
    )


def _begins_image(text: bytes) -> bool:
    """Tell whether base64 begins with the signature of an image."""
    try:
        return detect_image_format(_decode(text[:_HEAD_CHARACTERS].rstrip(b"="))) is not None
    except binascii.Error:
        return False


def _check_content(content: bytes, packed: bytes, text: bytes, where: str) -> None:
    """Explain what was decoded, or taken for base64, if that can be told.

    Raises:
        UnreadableBody: the text is a path.
        NotAnImage: it is something else that is known.
    """
    if explain_refusal(content) is not None:
        return  # the inspection of the image names a format that is not supported
    if _is_hexadecimal(packed):
        raise NotAnImage(f"{where} is an image in hexadecimal digits; encode it in base64")
    explanation = _explain(content)
    if text.startswith(b"--") and explanation is None:
        raise UnreadableBody(f"{where} is {explain_content(text)}")
    if explanation is not None:
        raise NotAnImage(f"{where} has, in base64, {explanation}")
    if is_location(packed) or b"\\" in text[:_SHORT_BYTES]:
        raise location_error(where)
    # Words that happen to consist of characters of base64 decode to other bytes than a text.
    if len(packed) < _SHORT_BYTES and not content.isascii():
        words = text.strip()[:_SHORT_BYTES].decode("ascii", "replace")
        raise NotAnImage(f"{where} is the text {quote(words)}, no image. {BYTES_ONLY}")


def _explain(content: bytes) -> str | None:
    """Return what the decoded bytes are, if that is known."""
    explanation = explain_content(content)
    if explanation is None and _begins_image(content):
        return "base64 again; encode the image once"
    return explanation


def location_error(where: str) -> UnreadableBody:
    """Return the error of a text that names an image in place of being one."""
    return UnreadableBody(f"{where} looks like a URL or a path. {BYTES_ONLY}")


def _is_hexadecimal(packed: bytes) -> bool:
    """Tell whether a text is an image in hexadecimal digits, which are characters of base64 too."""
    digits = _HEX.match(packed)
    return digits is not None and detect_image_format(bytes.fromhex(digits[2].decode())) is not None


def _explain_base64(packed: bytes, text: bytes, where: str) -> UnreadableBody:
    """Return the error of a text that is not base64."""
    if _begins_image(packed):
        return UnreadableBody(f"{where} begins with an image in base64, but {_explain_rest(packed)}")
    explanation = explain_content(text)
    if explanation is not None:
        return UnreadableBody(f"{where} is {explanation}")
    if detect_image_format(unquote_to_bytes(text[:_HEAD_CHARACTERS])) is not None:
        return UnreadableBody(f"{where} is an image whose bytes are URL-encoded; send the bytes themselves, or base64")
    if is_location(packed):
        return location_error(where)
    return UnreadableBody(f"{where} is neither a {FORMATS} image nor one in base64")


def _explain_rest(packed: bytes) -> str:
    if b"=" in packed:
        return "has `=` in the middle: encode the whole file at once"
    if _has_any(packed, b"+/") and _has_any(packed, b"-_"):
        return "mixes its two alphabets: `+` and `/`, `-` and `_`"
    if len(packed) % 4 == 1 and _only_base64(packed):
        return "a character is missing or too much: send it whole"
    return "other characters follow: send nothing but base64"


def _only_base64(packed: bytes) -> bool:
    return packed.translate(None, b"-_+/").isalnum()
