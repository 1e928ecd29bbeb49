"""What belongs to the request at hand.  Only the app and the routes look at Flask's ambient state, and only here."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

from flask import current_app, g, request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

from api.services import Caller, Services
from shared.errors import BodyTooLarge, UnreadableBody

EXTENSION = "maskmill"

# An upload that brings no byte for this long gives its thread back.
STALLED_SECONDS = 30.0
MOST_DISCARDED_BYTES = 256 * 1024 * 1024
MOST_DISCARDING_SECONDS = 2.0


def services() -> Services:
    return cast(Services, current_app.extensions[EXTENSION])


def caller() -> Caller:
    return Caller(tenant=g.tenant, request_id=g.request_id)


def body() -> bytes:
    """Read the whole body as it was sent.  Nothing may have touched the request's form before.

    Raises:
        BodyTooLarge: it is larger than MAX_CONTENT_LENGTH.
        UnreadableBody: the caller stopped sending before its end, or sent it in broken chunks.
    """
    with _patience(STALLED_SECONDS):
        try:
            sent = request.get_data(cache=False)
        except ParseException as error:
            raise UnreadableBody("The request body does not hold together as chunks.") from error
    promised, limit = request.content_length, request.max_content_length
    if promised is None and limit is not None and len(sent) >= limit:
        # A body of unknown length is cut at the limit without a word, so one that fills it counts as too large.
        raise BodyTooLarge("The request body is larger than this service takes.")
    if promised is not None and len(sent) < promised:
        raise UnreadableBody(f"The request body was cut short: {len(sent)} of {promised} bytes came.")
    return sent


def discard_rest() -> None:
    """Drop what a refused caller still sends, for a while: one who is cut off in the middle never reads why."""
    deadline = time.monotonic() + MOST_DISCARDING_SECONDS
    left = MOST_DISCARDED_BYTES
    with _patience(MOST_DISCARDING_SECONDS), suppress(OSError, EOFError, ParseException):
        while left > 0 and time.monotonic() < deadline:
            dropped = len(request.environ["wsgi.input"].read(1 << 16))
            if not dropped:
                return
            left -= dropped


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Let every read from the caller fail that brings nothing for so long."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        yield
        return
    connection.settimeout(seconds)
    try:
        yield
    finally:
        connection.settimeout(None)


def caller_is_there() -> bool:
    """Look whether the other end has closed its connection; True where that cannot be told."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return True
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b"")
    except BlockingIOError:
        return True
    except ValueError:  # TLS cannot peek
        return True
    except OSError:
        return False
