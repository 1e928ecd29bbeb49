"""Splitting a form as `multipart/form-data` (RFC 7578) into its parts, within bounds.  No Flask here."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from shared.errors import ClientError, UnreadableBody

MAX_PARTS = 32  # with one image
# A delimiter may be followed by blanks (RFC 2046, section 5.1.1).
_MAX_PADDING_BYTES = 256
_PIECE_BYTES = 1 << 16
# Beyond it the parser takes many times as much memory as the body.
_MAX_PART_HEADER_BYTES = 8192
_BLANK_LINES = (b"\r\n\r\n", b"\n\n", b"\r\r")
# How a form begins: with a delimiter (RFC 2046, section 5.1.1) and the header that every part of a form has.
_FORM_START = re.compile(
    rb"(?:\r?\n)?--([0-9a-zA-Z'()+_,./:=?-]{1,70})\r?\nContent-Disposition: ?form-data", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a form; `filename` is None for a field that is no file input."""

    name: str
    filename: str | None
    content: bytes


def find_boundary(body: bytes, content_type: str) -> bytes:
    """Return the boundary of a form; empty if the body is none.

    One that does not occur means that the header is wrong, as with any other Content-Type; then, or if the client has
    set the header without it, it is read from the first line.
    """
    boundary = _parse_boundary(content_type)
    if boundary and b"--" + boundary in body:
        return boundary
    first = _FORM_START.match(body)
    return first[1] if first else b""


def _parse_boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind.lower() != "multipart/form-data":
        return b""
    return options.get("boundary", "").encode("ascii", "ignore")


def split_form(body: bytes, boundary: bytes, *, max_parts: int = MAX_PARTS) -> Iterator[Part]:
    """Yield each part, file or field: some clients send images without a file name.

    Raises:
        UnreadableBody: the form is malformed, or has too many parts or headers.
    """
    _check_parts(body, b"--" + boundary, max_parts)
    name, filename = "", None
    content: list[bytes] = []
    try:
        for event in _decode_parts(body, boundary, max_parts):
            if isinstance(event, Field | File):
                name, filename, content = event.name or "", getattr(event, "filename", None), []
            elif isinstance(event, Data):
                content.append(event.data)
                if not event.more_data:
                    yield Part(name, filename, b"".join(content))
    except RequestEntityTooLarge as error:
        raise _too_many_parts_error(max_parts) from error
    except ClientError:
        raise
    except Exception as error:  # hostile part headers raise various exceptions
        raise UnreadableBody("The form is broken: it does not hold together as multipart/form-data") from error


def _decode_parts(body: bytes, boundary: bytes, max_parts: int) -> Iterator[Event]:
    """Yield the events of a form, which is decoded by pieces.

    In one piece a regular expression is searched in all of it, which holds up every other thread meanwhile.
    """
    decoder = MultipartDecoder(boundary, max_parts=max_parts)
    for piece in chain(_split_pieces(body, b"--" + boundary), (None,)):
        decoder.receive_data(piece)
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            yield event


def _split_pieces(body: bytes, delimiter: bytes) -> Iterator[bytes]:
    """Yield the pieces of a form; none ends in the line of a delimiter.

    If one does, werkzeug 3.1 takes the line end before the delimiter for a byte of the content.
    """
    start = 0
    while start < len(body):
        end = start + _PIECE_BYTES
        line_start = body.rfind(delimiter, max(start, end - len(delimiter) - _MAX_PADDING_BYTES), end)
        if line_start >= 0:
            line_end = line_start + len(delimiter) + _MAX_PADDING_BYTES
            newline = body.find(b"\n", line_start, line_end)
            end = max(end, line_end if newline < 0 else newline + 1)
        yield body[start:end]
        start = end


def _check_parts(body: bytes, delimiter: bytes, max_parts: int) -> None:
    """Refuse forms whose parts are too many, or begin with headers that are too long, before they are parsed.

    Raises:
        UnreadableBody: the form is such a one.
    """
    position = 0
    for _ in range(max_parts + 2):  # the last delimiter, and none
        position = body.find(delimiter, position)
        if position < 0:
            return
        position += len(delimiter)
        head = body[position : position + _MAX_PART_HEADER_BYTES]
        is_last = head.startswith(b"--")
        if not is_last and len(head) == _MAX_PART_HEADER_BYTES and not any(end in head for end in _BLANK_LINES):
            raise UnreadableBody(f"A part of the form has more than {_MAX_PART_HEADER_BYTES} bytes of headers")
    raise _too_many_parts_error(max_parts)


def _too_many_parts_error(max_parts: int) -> UnreadableBody:
    return UnreadableBody(f"The form has more than {max_parts} parts")
