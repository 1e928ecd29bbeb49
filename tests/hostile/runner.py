"""Sends hostile inputs to a service at a base URL, and says what is wrong with the answers."""

import contextlib
import http.client
import json
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.hostile.inputs import CLOSED, HostileInput

MAX_SECONDS = 5.0
_TIMEOUT_SECONDS = 60.0
_MAX_ERROR_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, or CLOSED; the body; and the seconds from the first byte sent to the last one received."""

    status: int
    body: bytes
    seconds: float
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """Where inputs are sent.  `url` has host and port; an empty token is not sent."""

    url: str
    token: str = ""

    def send(self, given: HostileInput) -> Answer:
        """Send an input on a connection of its own and return the answer."""
        request = given.raw() if given.raw is not None else self._encode(given)
        start = time.monotonic()
        with self._connect() as connection:
            # A server may answer and close before it has read the whole body.
            with contextlib.suppress(ConnectionError):
                connection.sendall(request)
                if given.raw is not None:
                    connection.shutdown(socket.SHUT_WR)  # so that no server waits for the rest of a request
            try:
                return self._receive(connection, given.method, start)
            except (ConnectionError, http.client.BadStatusLine):
                return Answer(CLOSED, b"", time.monotonic() - start)

    def _connect(self) -> socket.socket:
        address = urlsplit(self.url)
        return socket.create_connection((address.hostname, address.port or 80), timeout=_TIMEOUT_SECONDS)

    def _encode(self, given: HostileInput) -> bytes:
        body = given.body() if given.body is not None else None
        headers = {"Host": urlsplit(self.url).netloc, "Connection": "close"}
        if body is not None:
            headers["Content-Length"] = str(len(body))
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        lines = [f"{given.method} {given.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        lines += [f"{name}: {value}" for name, value in given.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")

    @staticmethod
    def _receive(connection: socket.socket, method: str, start: float) -> Answer:
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        body = response.read()
        content_type = response.headers.get("Content-Type", "")
        return Answer(response.status, body, time.monotonic() - start, content_type)


def find_fault(given: HostileInput, answer: Answer) -> str | None:
    """Return what is wrong with an answer; None if it is as it must be."""
    if answer.status not in given.statuses:
        return f"status {answer.status} instead of {sorted(given.statuses)}: {answer.body[:200]!r}"
    if answer.seconds > MAX_SECONDS:
        return f"took {answer.seconds:.1f} s"
    if answer.status >= http.HTTPStatus.BAD_REQUEST and given.method != "HEAD":
        return find_fault_of_error(answer)
    return None


def find_fault_of_error(answer: Answer) -> str | None:
    """Return what is wrong with the body of an error: it must be JSON of the documented form, and short."""
    try:
        document: Any = json.loads(answer.body)
    except ValueError:
        return f"the error is not JSON: {answer.body[:100]!r}"
    if not isinstance(document, dict):
        return f"the error is not an object: {answer.body[:100]!r}"
    texts = [document.get(name) for name in ("error", "error_type", "request_id")]
    if not all(isinstance(text, str) and text for text in texts):
        return f"the error is not of the documented form: {answer.body[:100]!r}"
    return "the error is long" if len(answer.body) > _MAX_ERROR_CHARACTERS else None
