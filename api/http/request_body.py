"""The bytes of a request's body, which the server has received already; their meaning is in api/http/bodies.py."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO

from flask import request

from api.http.content_coding import IDENTITY, decompress, parse_coding
from api.server.budget import Reservation
from api.server.options import REFUSAL_KEY, RESERVATION_KEY
from shared.errors import BodyTooLarge, MaskmillError, UnreadableBody

# Parsing JSON with base64 takes several times the memory of the body.  It holds the GIL, so that two at once take no
# less time than one after the other.
LARGE_BODY_BYTES = 1024 * 1024
_parsing_large_body = threading.Lock()


def read_request_body() -> bytes:
    """Return the whole body, decompressed if the client has compressed it; it can be read once.

    Raises:
        BodyTooLarge: it is larger than MAX_CONTENT_LENGTH, as it came or decompressed.
        UnreadableBody: the client stopped sending before its end, or its chunked or content encoding is broken.
        UnsupportedCoding: it is compressed in a way that is not accepted.
        RequestTimeout: the client sent it too slowly.
        UploadsFull: the gateway holds as many uploads as it may.
        Unauthorized: the request has no valid token.
    """
    refusal: MaskmillError | None = request.environ.get(REFUSAL_KEY)
    if refusal is not None:
        raise refusal
    coding = parse_coding(request.headers.get("Content-Encoding", ""))
    stream = request.environ["wsgi.input"]
    # The stream gives its buffer away without a copy, and closing it leaves that to the caller alone.
    body: bytes = stream.getvalue() if isinstance(stream, BytesIO) else stream.read()
    stream.close()
    if request.max_content_length is not None and len(body) > request.max_content_length:
        raise BodyTooLarge("The request body is larger than this service takes.")
    if request.content_length is not None and len(body) < request.content_length:
        raise UnreadableBody(f"The request body was cut short: {len(body)} of {request.content_length} bytes came.")
    return body if coding == IDENTITY or not body else _decompress(body, coding)


def _decompress(body: bytes, coding: str) -> bytes:
    reservation: Reservation | None = request.environ.get(RESERVATION_KEY)
    content = decompress(
        body,
        coding,
        max_bytes=sys.maxsize if request.max_content_length is None else request.max_content_length,
        reserve=lambda nbytes: reservation is None or reservation.grow(nbytes),
    )
    # The compressed bytes are not held beyond this.
    keep_reserved(len(content))
    return content


@contextmanager
def parse_in_turn(nbytes: int) -> Iterator[None]:
    """Let only one thread at a time parse a large body."""
    with _parsing_large_body if nbytes > LARGE_BODY_BYTES else nullcontext():
        yield


def keep_reserved(nbytes: int) -> None:
    """Give back what the request has reserved in the budget of bytes beyond `nbytes`: the rest is not held any more."""
    reservation: Reservation | None = request.environ.get(RESERVATION_KEY)
    if reservation is not None:
        reservation.shrink(nbytes)
