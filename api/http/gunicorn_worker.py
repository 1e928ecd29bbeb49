"""Gunicorn's worker, made to refuse in JSON what it cannot even read as a request: its own pages are HTML."""

import json
import socket
import uuid
from typing import Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from shared.errors import MaskmillError, UnreadableBody


class JsonWorker(ThreadWorker):  # type: ignore[misc]
    """Differs from its parent in how it words a refusal, and in nothing else."""

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        super().handle_error(req, _Rewording(client), addr, exc)


class _Rewording:
    """Stands in for a socket while a page is written to it."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client

    def gettimeout(self) -> float | None:
        return self._client.gettimeout()

    def setblocking(self, flag: bool) -> None:
        self._client.setblocking(flag)

    def sendall(self, page: bytes) -> None:
        self._client.sendall(reworded(page))


def reworded(page: bytes) -> bytes:
    """Return a whole response that says in JSON what the status line of another says.

    >>> reworded(b"HTTP/1.1 414 URI Too Long\\r\\nConnection: close\\r\\n\\r\\n<html>")[:27]
    b'HTTP/1.1 414 URI Too Long\\r\\n'
    """
    status_line = page.partition(b"\r\n")[0].decode("latin-1")
    _, code, reason = status_line.split(" ", 2)
    kind = UnreadableBody if int(code) < 500 else MaskmillError
    request_id = uuid.uuid4().hex
    told = {"error": f"The request cannot be read: {reason}.", "error_type": kind.code, "request_id": request_id}
    body = json.dumps(told).encode()
    head = [
        status_line,
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Request-ID: {request_id}",
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body
