"""Gunicorn's threaded worker, which answers a malformed request in JSON; gunicorn's own error pages are HTML."""

import json
import socket
import uuid
from typing import Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from shared.errors import MaskmillError, UnreadableBody


class JsonWorker(ThreadWorker):  # type: ignore[misc]
    """Differs from its parent in the body of such a response only."""

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        super().handle_error(req, _JsonErrorSocket(client), addr, exc)


class _JsonErrorSocket:
    """Replaces the client's socket while gunicorn writes an error page to it."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client

    def gettimeout(self) -> float | None:
        return self._client.gettimeout()

    def setblocking(self, flag: bool) -> None:
        self._client.setblocking(flag)

    def sendall(self, page: bytes) -> None:
        self._client.sendall(build_json_response(page))


def build_json_response(page: bytes) -> bytes:
    """Return a whole HTTP response with the status line of another one, and a JSON error as its body.

    >>> build_json_response(b"HTTP/1.1 414 URI Too Long\\r\\nConnection: close\\r\\n\\r\\n<html>")[:27]
    b'HTTP/1.1 414 URI Too Long\\r\\n'
    """
    status_line = page.partition(b"\r\n")[0].decode("latin-1")
    _, status, reason = status_line.split(" ", 2)
    kind = UnreadableBody if int(status) < 500 else MaskmillError
    request_id = uuid.uuid4().hex
    error = {"error": f"The request cannot be read: {reason}.", "error_type": kind.code, "request_id": request_id}
    body = json.dumps(error).encode()
    head = [
        status_line,
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Request-ID: {request_id}",
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body
