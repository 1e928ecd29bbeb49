"""Bodies of text in UTF-16 or UTF-32, as some shells and editors write files.  No Flask here."""

from shared.errors import UnreadableBody

# By their byte order marks, or by a first `{`, as json.detect_encoding does (RFC 4627, section 3).  No image begins so.
_ENCODINGS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"{\x00\x00\x00", "utf-32-le"),
    (b"\x00\x00\x00{", "utf-32-be"),
    (b"{\x00", "utf-16-le"),
    (b"\x00{", "utf-16-be"),
)


def convert_to_utf8(body: bytes) -> bytes:
    """Return a body that begins like UTF-16 or UTF-32 in UTF-8, and any other as it is.

    Raises:
        UnreadableBody: it begins so, but is not.
    """
    encoding = next((name for beginning, name in _ENCODINGS if body.startswith(beginning)), None)
    if encoding is None:
        return body
    try:
        text = body.decode(encoding)
        # Neither JSON nor base64 begins otherwise.
        if text[:1].isascii():
            return text.encode()
    except UnicodeError:
        pass
    raise UnreadableBody(
        f"The body begins like {encoding[:6].upper()}, but is no JSON and no base64 in it; send UTF-8, and a file by "
        "`curl --data-binary @file`"
    )
