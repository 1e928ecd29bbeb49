"""Plain HTTP, for requests that no client library sends."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.outcomes import Segment

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Response:
    """Header names are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(Segment.from_wire(element) for element in self.json())

    def check_error(self, status: int) -> str:
        """Check the shape of an error response, and return its message."""
        assert self.status == status, self.body[:300]
        assert self.headers["content-type"].split(";")[0] == "application/json"
        assert self.headers["x-request-id"]
        message = self.json()["error"]
        assert isinstance(message, str) and message
        return message


def send(
    url: str, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Send one request with exactly these headers, besides Host and Content-Length."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        reply = connection.getresponse()
        received = {name.lower(): value for name, value in reply.getheaders()}
        return Response(reply.status, reply.read(), received)
    finally:
        connection.close()


def post(url: str, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return send(url, "POST", path, body, headers)


def document(inputs: object, **more: object) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()
