"""Plain HTTP, for what no client can be made to send."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.outcomes import Segment

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """Header names are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(Segment.of_wire(element) for element in self.json())

    def insist_on_refusal(self, status: int) -> str:
        """Return the sentence of an error that every client can show."""
        assert self.status == status, self.body[:300]
        assert self.headers["content-type"].split(";")[0] == "application/json"
        assert self.headers["x-request-id"]
        sentence = self.json()["error"]
        assert isinstance(sentence, str) and sentence
        return sentence


def send(
    url: str, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send one request with exactly these headers, besides Host and Content-Length."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        sent = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, response.read(), sent)
    finally:
        connection.close()


def post(url: str, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    return send(url, "POST", path, body, headers)


def document(inputs: object, **more: object) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()
