"""Reading the bytes of a request's body; what they mean is in api/http/bodies.py."""

import time
from contextlib import suppress

from flask import request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

from api.http.connection import read_timeout
from shared.errors import BodyTooLarge, UnreadableBody

# An upload that sends no byte for this long releases its thread.
READ_TIMEOUT_SECONDS = 30.0
MAX_DRAIN_BYTES = 256 * 1024 * 1024
MAX_DRAIN_SECONDS = 2.0
_CHUNK_BYTES = 1 << 16


def read_request_body() -> bytes:
    """Read the whole body as it was sent.  The request's form must not have been accessed before.

    Raises:
        BodyTooLarge: it is larger than MAX_CONTENT_LENGTH.
        UnreadableBody: the client stopped sending before its end, or its chunked encoding is broken.
    """
    with read_timeout(READ_TIMEOUT_SECONDS):
        try:
            sent = request.get_data(cache=False)
        except ParseException as error:
            raise UnreadableBody("The request body does not hold together as chunks.") from error
    promised, limit = request.content_length, request.max_content_length
    if promised is None and limit is not None and len(sent) >= limit:
        # Werkzeug cuts a body of unknown length at the limit without an error, so one that fills it is too large.
        raise BodyTooLarge("The request body is larger than this service takes.")
    if promised is not None and len(sent) < promised:
        raise UnreadableBody(f"The request body was cut short: {len(sent)} of {promised} bytes came.")
    return sent


def drain_request_body() -> None:
    """Read and discard the rest of the body, within limits.

    A client whose connection is reset while it is still sending never reads the response.
    """
    deadline = time.monotonic() + MAX_DRAIN_SECONDS
    remaining = MAX_DRAIN_BYTES
    with read_timeout(MAX_DRAIN_SECONDS), suppress(OSError, EOFError, ParseException):
        while remaining > 0 and time.monotonic() < deadline:
            discarded = len(request.environ["wsgi.input"].read(_CHUNK_BYTES))
            if not discarded:
                return
            remaining -= discarded
