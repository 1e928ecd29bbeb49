"""A receiver of webhooks as a customer writes one: it verifies messages with the public standardwebhooks."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

MAX_WRITTEN_CHUNKS = 2000


@dataclass(frozen=True)
class Received:
    """A message, and whether its signature is that of the receiver's secret; `at` is of time.monotonic()."""

    id: str
    path: str
    headers: Mapping[str, str]
    document: Mapping[str, Any]
    is_signed: bool
    at: float

    @property
    def type(self) -> str:
        return str(self.document["type"])

    @property
    def job_id(self) -> str:
        return str(self.document["data"]["id"])


Answer = Callable[[BaseHTTPRequestHandler, Received], None]


def answer_with(status: int, **headers: str) -> Answer:
    """Return a behaviour: this status, with headers whose names have underscores for hyphens."""

    def answer(handler: BaseHTTPRequestHandler, _: Received) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def answer_without_end(handler: BaseHTTPRequestHandler, _: Received) -> None:
    """Send a body that never ends."""
    handler.send_response(200)
    handler.end_headers()
    for _number in range(MAX_WRITTEN_CHUNKS):
        handler.wfile.write(bytes(65536))


def hang(seconds: float) -> Answer:
    """Return a behaviour: no answer for some seconds."""

    def answer(handler: BaseHTTPRequestHandler, received: Received) -> None:
        time.sleep(seconds)
        answer_with(204)(handler, received)

    return answer


@dataclass
class Receiver:
    """secret: of the endpoint, once it is known.  answer: what is done with each message."""

    port: int = 0
    secret: str = ""
    answer: Answer = field(default_factory=lambda: answer_with(204))
    received: list[Received] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def start(self) -> None:
        """Listen; after stop() at the same port."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received = receiver.read(self)
                receiver.received.append(received)
                receiver.answer(self, received)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Say nothing: the sender may have gone."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def read(self, handler: BaseHTTPRequestHandler) -> Received:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        return Received(
            headers["webhook-id"],
            handler.path,
            headers,
            json.loads(body),
            self._verify(body, headers),
            time.monotonic(),
        )

    def _verify(self, body: bytes, headers: dict[str, str]) -> bool:
        if not self.secret:
            return False
        try:
            Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError:
            return False
        return True

    def list_ids(self) -> set[str]:
        return {one.id for one in self.received}


@contextmanager
def run_receiver(**changes: Any) -> Iterator[Receiver]:
    """Yield a receiver that listens."""
    receiver = Receiver(**changes)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
