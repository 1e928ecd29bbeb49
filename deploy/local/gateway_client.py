"""HTTP client for the requests of the launcher to its own gateway.  It uses no proxy and follows no redirect."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.local.servers import LOOPBACK


class GatewayRefused(Exception):
    """The gateway did not respond, or responded with an error; the text is one line."""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP status, a body, and headers by their names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the parsed body.

        Raises:
            GatewayRefused: the body is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise GatewayRefused(f"the gateway answered {self.status} with a body that is not JSON") from error

    def raise_for_status(self) -> "Response":
        """Return this response if its status is 2xx.

        Raises:
            GatewayRefused: it is not.
        """
        if not self.is_ok:
            raise GatewayRefused(f"the gateway answered {self.status}: {self._error_message()}")
        return self

    def _error_message(self) -> str:
        try:
            return str(self.json()["error"])
        except (GatewayRefused, KeyError, TypeError):
            return self.body[:200].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class GatewayClient:
    """Sends requests to the gateway on a port of the loopback address; an empty token is not sent."""

    port: int
    token: str = ""
    timeout_seconds: float = 60.0

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "image/jpeg",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request and return the response, also if its status is an error.

        Raises:
            GatewayRefused: there was no response.
        """
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = content_type
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=self.timeout_seconds)
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, response.read(), received)
        except (OSError, http.client.HTTPException) as error:
            raise GatewayRefused(f"the gateway does not answer: {error}") from error
        finally:
            connection.close()

    def get(self, path: str) -> Response:
        """Send a GET request.

        Raises:
            GatewayRefused: there was no response, or its status is not 2xx.
        """
        return self.request("GET", path).raise_for_status()

    def post(self, path: str, body: bytes) -> Response:
        """Send an image in a POST request.

        Raises:
            GatewayRefused: there was no response, or its status is not 2xx.
        """
        return self.request("POST", path, body).raise_for_status()
