"""What belongs to the request at hand.  Only the app and the routes look at Flask's ambient state, and only here."""

import socket
from typing import cast

from flask import current_app, g, request

from api.services import Caller, Services
from shared.errors import BodyTooLarge, UnreadableBody

EXTENSION = "maskmill"


def services() -> Services:
    return cast(Services, current_app.extensions[EXTENSION])


def caller() -> Caller:
    return Caller(tenant=g.tenant, request_id=g.request_id)


def body() -> bytes:
    """Read the whole body as it was sent.  Nothing may have touched the request's form before.

    Raises:
        BodyTooLarge: it is larger than MAX_CONTENT_LENGTH.
        UnreadableBody: the caller stopped sending before its end.
    """
    sent = request.get_data(cache=False)
    promised, limit = request.content_length, request.max_content_length
    if promised is None and limit is not None and len(sent) >= limit:
        # A body of unknown length is cut at the limit without a word, so one that fills it counts as too large.
        raise BodyTooLarge("The request body is larger than this service takes.")
    if promised is not None and len(sent) < promised:
        raise UnreadableBody(f"The request body was cut short: {len(sent)} of {promised} bytes came.")
    return sent


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
