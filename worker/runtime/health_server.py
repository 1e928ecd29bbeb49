"""The health server: /healthz, /readyz and /metrics over HTTP, for supervisors and Prometheus.  No Flask."""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest

from shared.authority import Authority, parse_authority
from shared.readiness import Readiness, ReadyStatus
from shared.web_pages import is_from_foreign_page

# For a client to send its request, and to take the response.
CLIENT_TIMEOUT_SECONDS = 5.0
# For /readyz: a store that has not answered by then is unreachable.
READY_TIMEOUT_SECONDS = 1.0
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"

Response = tuple[HTTPStatus, str, bytes]


class HealthServer:
    """Serves on a thread of its own until stop().

    On loopback it answers no foreign web page, and only requests for a name of loopback: a page can have its own name
    point there and would read the response.

    Args:
        address: host and port; port 0 chooses a free one.
        registry: the metrics that /metrics exports.
        is_healthy: decides between 200 and 503 for /healthz; False asks the supervisor for a restart.
        check_readiness: what /readyz shows, as JSON; 503 means that no work is accepted at present.

    Raises:
        OSError: the address is in use, or this machine has none such; its text names the settings.
    """

    def __init__(
        self,
        address: tuple[str, int],
        registry: CollectorRegistry,
        *,
        is_healthy: Callable[[], bool],
        check_readiness: Callable[[], Readiness],
        client_timeout_seconds: float = CLIENT_TIMEOUT_SECONDS,
    ) -> None:
        handler = _build_handler(
            {
                "/healthz": lambda: _describe_health(is_healthy()),
                "/readyz": lambda: _describe_readiness(check_readiness()),
                "/metrics": lambda: (HTTPStatus.OK, _METRICS_TYPE, generate_latest(registry)),
            },
            is_local=Authority(address[0]).is_loopback,
            client_timeout_seconds=client_timeout_seconds,
        )
        self._server = _listen(address, handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health-server", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def port(self) -> int:
        """The bound port, also if port 0 was given."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


def _listen(address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    try:
        return (_Server6 if ":" in address[0] else ThreadingHTTPServer)(address, handler)
    except OSError as error:
        reason = f"{address[0]}:{address[1]} cannot be listened on: {error.strerror or error}"
        raise OSError(f"MASKMILL_PROBE_HOST and MASKMILL_PROBE_PORT: {reason}") from error


def _build_handler(
    routes: Mapping[str, Callable[[], Response]], *, is_local: bool, client_timeout_seconds: float
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = client_timeout_seconds

        def do_GET(self) -> None:
            status, content_type, body = self._respond()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _respond(self) -> Response:
            host = self.headers.get("Host", "")
            if is_local and not _names_loopback(host):
                return HTTPStatus.MISDIRECTED_REQUEST, _TEXT, b"not served under this name\n"
            if is_local and is_from_foreign_page("GET", self.headers, host, lambda _origin: False):
                return HTTPStatus.FORBIDDEN, _TEXT, b"not served to pages of other origins\n"
            route = routes.get(self.path.partition("?")[0])
            return route() if route else (HTTPStatus.NOT_FOUND, _TEXT, b"not found\n")

        def log_message(self, *_: object) -> None:
            """Log nothing: probes arrive every few seconds."""

    return Handler


def _describe_health(is_healthy: bool) -> Response:
    if is_healthy:
        return HTTPStatus.OK, _TEXT, b"ok\n"
    return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"not healthy\n"


def _describe_readiness(readiness: Readiness) -> Response:
    is_unavailable = readiness.status is ReadyStatus.UNAVAILABLE
    body = json.dumps({"status": readiness.status, "checks": dict(readiness.checks)})
    return HTTPStatus.SERVICE_UNAVAILABLE if is_unavailable else HTTPStatus.OK, _JSON, f"{body}\n".encode()


def _names_loopback(host: str) -> bool:
    """Return whether a Host header names loopback; without one (HTTP/1.0) the request comes from no browser."""
    authority = parse_authority(host)
    return not host or (authority is not None and authority.is_loopback)
