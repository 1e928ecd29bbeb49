"""The few requests that the launcher makes of its own gateway.  No proxies, no redirects: it is on this machine."""

import http.client
import json
from dataclasses import dataclass
from typing import Any

from deploy.local.servers import LOOPBACK


class GatewayRefused(Exception):
    """The gateway did not answer, or answered with an error; the text is one line."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the parsed body.

        Raises:
            GatewayRefused: it is no JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise GatewayRefused(f"the gateway answered {self.status} with something that is no JSON") from error


@dataclass(frozen=True, slots=True)
class GatewayClient:
    port: int
    token: str = ""
    timeout_seconds: float = 60.0

    def ask(self, method: str, path: str, body: bytes | None = None, content_type: str = "image/jpeg") -> Answer:
        """Send one request and return whatever comes back.

        Raises:
            GatewayRefused: nothing came back.
        """
        headers = {"Content-Type": content_type} if body is not None else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=self.timeout_seconds)
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise GatewayRefused(f"the gateway does not answer: {error}") from error
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        """Fetch something that must be there.

        Raises:
            GatewayRefused: it is not, or nothing came back.
        """
        return _insist(self.ask("GET", path))

    def post(self, path: str, body: bytes) -> Answer:
        """Send an image that must be taken.

        Raises:
            GatewayRefused: it is not, or nothing came back.
        """
        return _insist(self.ask("POST", path, body))


def _insist(answer: Answer) -> Answer:
    if not answer.is_ok:
        raise GatewayRefused(f"the gateway answered {answer.status}: {_reason(answer)}")
    return answer


def _reason(answer: Answer) -> str:
    try:
        return str(answer.json()["error"])
    except (GatewayRefused, KeyError, TypeError):
        return answer.body[:200].decode(errors="replace")
