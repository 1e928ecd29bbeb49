"""Forms as `application/x-www-form-urlencoded`, as HTTP libraries and `curl -d` send fields.  No Flask here."""

import re
from collections.abc import Collection, Iterator
from urllib.parse import unquote_plus

from werkzeug.http import parse_options_header

from shared.errors import UnreadableBody
from shared.images.formats import detect_image_format

_MAX_NAME_BYTES = 1000
_MIME_TYPE = "application/x-www-form-urlencoded"
# Base64 has this sign at its end alone.
_FIELD = re.compile(rb"[A-Za-z_][A-Za-z0-9_.%\[\]-]{0,39}=[^=\s]")


def is_urlencoded(body: bytes, content_type: str) -> bool:
    """Tell whether a body is such a form.  Many clients say so of any body, so it must look like one too."""
    if parse_options_header(content_type)[0].lower() != _MIME_TYPE:
        return False
    return begins_with_field(body) and detect_image_format(body) is None


def begins_with_field(text: bytes) -> bool:
    """Tell whether a text begins like the first field of such a form."""
    return _FIELD.match(text) is not None


def split_fields(
    body: bytes, *, kept: Collection[str], max_fields: int, max_field_bytes: int
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each field; fields in `kept`, and those that are too long, are not decoded.

    The image is one of those kept: a `+` in base64 is one, encoded or not, although it means a blank in other fields.

    Raises:
        UnreadableBody: there are too many.
    """
    if body.count(b"&") >= max_fields:
        raise UnreadableBody(f"The form has more than {max_fields} fields")
    for pair in filter(None, body.split(b"&")):
        name, _, content = pair.partition(b"=")
        text = _decode(name[:_MAX_NAME_BYTES])
        # An encoded byte takes three.
        is_kept = text in kept or len(content) > 3 * max_field_bytes
        yield text, content if is_kept else _decode(content).encode()


def _decode(text: bytes) -> str:
    return unquote_plus(text.decode("utf-8", "replace"))
