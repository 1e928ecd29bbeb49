"""A worker's own small window: /healthz, /readyz and /metrics over plain HTTP, for a supervisor and for Prometheus."""

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest


class Probe:
    """Serves on a thread of its own until the process ends."""

    def __init__(
        self,
        address: tuple[str, int],
        registry: CollectorRegistry,
        *,
        is_healthy: Callable[[], bool],
        is_ready: Callable[[], bool],
    ) -> None:
        answers: dict[str, Callable[[], tuple[HTTPStatus, bytes]]] = {
            "/healthz": lambda: _verdict(is_healthy()),
            "/readyz": lambda: _verdict(is_ready()),
            "/metrics": lambda: (HTTPStatus.OK, generate_latest(registry)),
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = answers.get(self.path.partition("?")[0])
                status, body = answer() if answer else (HTTPStatus.NOT_FOUND, b"no such page\n")
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """A probe every few seconds is not worth a line."""

        self._server = ThreadingHTTPServer(address, Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="probe", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is served, also where 0 was asked for."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _verdict(good: bool) -> tuple[HTTPStatus, bytes]:
    return (HTTPStatus.OK, b"ok\n") if good else (HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n")
