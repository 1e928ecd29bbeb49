"""Listening on the address of a setting: a port, or a Unix socket."""

import socket
from pathlib import Path

BACKLOG = 2048


def listen(bind: str, *, name: str) -> socket.socket:
    """Return a socket that listens on `host:port` or `unix:/path`; a fork inherits it.

    Args:
        name: of the setting, for the error.

    Raises:
        OSError: it is in use, or this machine has no such address.
    """
    try:
        if bind.startswith("unix:"):
            return _listen_at_path(Path(bind.removeprefix("unix:")))
        host, _, port = bind.rpartition(":")
        return _listen_at_port(host.strip("[]"), int(port))
    except OSError as error:
        raise OSError(f"{name}: {bind} cannot be listened on: {error.strerror or error}") from error


def _listen_at_port(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Two processes can bind the same address until one of them listens.
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_at_path(path: Path) -> socket.socket:
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
