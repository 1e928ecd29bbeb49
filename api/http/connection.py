"""Whether the client has closed its connection.

The server passes the socket in `gunicorn.socket`, and reads nothing from it while the request runs.  Flask's test
client has none: it never disconnects.
"""

import select
import socket
import threading

from flask import request

# Linux reports a closed peer as POLLRDHUP, even behind unread bytes; elsewhere only a look at the next byte tells.
_CLOSED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def is_client_connected() -> bool:
    """Return False once the client has closed its side of the connection, and True if that cannot be determined."""
    connection = _client_socket()
    if connection is None:
        return True
    return not _is_closed(connection, 0.0)


def wait_for_disconnect(seconds: float) -> bool:
    """Wait up to `seconds` and return True as soon as the client has closed its side of the connection."""
    connection = _client_socket()
    if connection is None:
        threading.Event().wait(max(0.0, seconds))
        return False
    return _is_closed(connection, max(0.0, seconds))


def _is_closed(connection: socket.socket, seconds: float) -> bool:
    """Wait up to `seconds` and return True as soon as the peer has closed its side."""
    poller = select.poll()
    poller.register(connection, _CLOSED)
    return bool(poller.poll(1000 * seconds)) or _is_at_end(connection)


def _is_at_end(connection: socket.socket) -> bool:
    """Return whether the peer has closed its side and nothing that it sent is unread."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except (BlockingIOError, ValueError):  # TLS cannot peek
        return False
    except OSError:
        return True


def _client_socket() -> socket.socket | None:
    connection: socket.socket | None = request.environ.get("gunicorn.socket")
    return connection
