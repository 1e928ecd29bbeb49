"""What bytes that are sent as an image are instead, in words: a page, an error, a pointer, the text of an object.

Each sentence goes on after `The body is`, and says what to do.  No Flask here.
"""

import re

from api.http.urlencoded import begins_with_field

_HEAD_BYTES = 1024
_SPACE_AND_MARK = b" \t\r\n\f\v\xef\xbb\xbf"
# No path and no URL is longer here; a longer text that begins like one is something else.
_MAX_LOCATION_BYTES = 4096

_PAGE = "a page of HTML: what it was downloaded from answers with a page, perhaps to sign in; send the image itself"
_PYTHON = "the text that Python prints for an object; send the bytes of the image file that it stands for"
_FORM = "a URL-encoded form; send it with `Content-Type: application/x-www-form-urlencoded`, the image as `inputs`"
# By how the content begins, in small letters and without white space before it; the first that fits.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    *((tag, _PAGE) for tag in (b"<!doctype html", b"<html", b"<head", b"<body")),
    *(
        (tag, "an XML document, perhaps the error of an object store; read what it says")
        for tag in (b"<?xml", b"<error")
    ),
    *((tag, _PYTHON) for tag in (b"<pil.", b"<_io.", b"<memory", b"<function", b"<class", b"array([", b"tensor(")),
    *((tag, f"{_PYTHON}, in base64") for tag in (b"b'", b'b"')),
    (b"[object ", "the text that JavaScript prints for an object; send the bytes that it holds"),
    (b'"{', "JSON in a string of JSON: it was encoded twice; encode it once"),
    (b'"', "a string of JSON; send an object, with the image as `inputs` in base64"),
    (b"[", "a list of JSON; send an object, with the image as `inputs`, one string in base64"),
    (b"{", "JSON, perhaps the error of what it was downloaded from; send the image itself"),
    (b"%7b", "URL-encoded JSON; send the JSON as it is"),
    (b"version https://git-lfs.github.com/", "a pointer of Git LFS in place of the file; fetch it with `git lfs pull`"),
    (b"--", "a multipart form whose boundary the Content-Type header does not name; let the HTTP library write it"),
    (b"\x1f\x8b", "data in gzip; send the image itself, or say so with the header `Content-Encoding: gzip`"),
)
# Every repetition is bounded, so that no text takes longer than its length
# (tests/unit/shared/test_linear_patterns.py).
_LOCATION = re.compile(
    rb"(blob:)?[a-zA-Z][a-zA-Z0-9+.-]{0,40}://|[./~\\@]|[a-zA-Z]:[\\/]|www\.|.{1,250}\.[a-zA-Z0-9]{2,5}$"
)
_JSON_FAULTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\{\s{0,20}'"), "its names are in single quotes, as Python prints a dict; use `json.dumps()`"),
    (re.compile(rb"\{\s{0,20}\\"), 'its quotes are escaped, as for a shell; send {"inputs": ...}'),
    (re.compile(rb"\{\s{0,20}[A-Za-z_]"), "its names are not in double quotes"),
)


def explain_content(content: bytes) -> str | None:
    """Return what the content is, if it is not an image but something that clients send for one; else None."""
    head = content[:_HEAD_BYTES].lstrip(_SPACE_AND_MARK)
    lowered = head.lower()
    found = next((sentence for beginning, sentence in _BEGINNINGS if lowered.startswith(beginning)), None)
    return found or (_FORM if begins_with_field(head) else None)


def explain_json(body: bytes) -> str | None:
    """Return what makes a body that begins like JSON no JSON, if it is a usual fault; else None."""
    return next((fault for pattern, fault in _JSON_FAULTS if pattern.match(body)), None)


def is_location(text: bytes) -> bool:
    """Tell whether a text looks like a URL or a path."""
    return len(text) <= _MAX_LOCATION_BYTES and _LOCATION.match(text) is not None
