"""Whether the client has closed its connection.

The server passes the socket in `gunicorn.socket`, and reads nothing from it while the request runs.  Flask's test
client has none: it never disconnects.
"""

import select
import socket
import threading

from flask import request

# Linux reports a closed peer as POLLRDHUP, even behind unread bytes; elsewhere is_client_connected() decides.
_CLOSED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def is_client_connected() -> bool:
    """Return False once the client has closed its side of the connection, and True if that cannot be determined."""
    connection = _client_socket()
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


def wait_for_disconnect(seconds: float) -> bool:
    """Wait up to `seconds` and return True as soon as the client has closed its side of the connection."""
    connection = _client_socket()
    if connection is None:
        threading.Event().wait(max(0.0, seconds))
        return False
    poller = select.poll()
    poller.register(connection, _CLOSED)
    return bool(poller.poll(1000 * max(0.0, seconds))) or not is_client_connected()


def _client_socket() -> socket.socket | None:
    connection: socket.socket | None = request.environ.get("gunicorn.socket")
    return connection
