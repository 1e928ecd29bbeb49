"""What belongs to the request at hand.  Only the app and the routes look at Flask's ambient state, and only here."""

import socket
from typing import cast

from flask import current_app, g, request

from api.services import Caller, Services

EXTENSION = "maskmill"


def services() -> Services:
    return cast(Services, current_app.extensions[EXTENSION])


def caller() -> Caller:
    return Caller(tenant=g.tenant, request_id=g.request_id)


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
