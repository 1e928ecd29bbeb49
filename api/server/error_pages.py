"""Errors that are answered before there is a request for the app, in JSON; gunicorn's own pages are HTML."""

import json
import uuid
from http import HTTPStatus

from shared.errors import MaskmillError, UnreadableBody


def translate_page(page: bytes) -> bytes:
    """Return a whole HTTP response with the status line of another one, and a JSON error as its body.

    >>> translate_page(b"HTTP/1.1 414 URI Too Long\\r\\nConnection: close\\r\\n\\r\\n<html>")[:27]
    b'HTTP/1.1 414 URI Too Long\\r\\n'
    """
    status_line = page.partition(b"\r\n")[0].decode("latin-1")
    _, status, reason = status_line.split(" ", 2)
    # 501: a transfer coding that no client should use.
    is_unreadable = int(status) < 500 or int(status) == HTTPStatus.NOT_IMPLEMENTED
    kind = UnreadableBody if is_unreadable else MaskmillError
    return _build(status_line, kind(f"The request cannot be read: {reason}."))


def build_page(status: HTTPStatus, error: MaskmillError) -> bytes:
    """Return a whole HTTP response for an error."""
    return _build(f"HTTP/1.1 {status.value} {status.phrase}", error)


def _build(status_line: str, error: MaskmillError) -> bytes:
    request_id = uuid.uuid4().hex
    content = {"error": str(error), "error_type": error.code, "request_id": request_id}
    body = json.dumps(content).encode()
    head = [
        status_line,
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Request-ID: {request_id}",
        *(f"{name}: {value}" for name, value in error.headers().items()),
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body
