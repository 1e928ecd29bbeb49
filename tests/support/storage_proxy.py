"""A proxy in front of the object store that changes requests or responses, as a store that lacks a feature would."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from tests.conftest import Storage


@dataclass(slots=True)
class Exchange:
    """One request, and its response once there is one."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    response_headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    def refuse(self, status: int, code: str) -> None:
        """Answer with an error, as the object store would."""
        self.status = status
        self.content = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


Change = Callable[[Exchange], None]
"""Changes a request, or answers it; called again when the response is there."""


def ignore_conditions(exchange: Exchange) -> None:
    exchange.headers.pop("if-none-match", None)


def refuse_conditions(exchange: Exchange) -> None:
    if "if-none-match" in exchange.headers:
        exchange.refuse(501, "NotImplemented")


def conflict_on_conditions(exchange: Exchange) -> None:
    if "if-none-match" in exchange.headers:
        exchange.refuse(409, "ConditionalRequestConflict")


def drop_metadata(exchange: Exchange) -> None:
    for name in [name for name in exchange.response_headers if name.startswith("x-amz-meta-")]:
        del exchange.response_headers[name]


def ignore_ranges(exchange: Exchange) -> None:
    exchange.headers.pop("range", None)


def ignore_matches(exchange: Exchange) -> None:
    exchange.headers.pop("if-match", None)


def show_empty_listings(exchange: Exchange) -> None:
    if "list-type=" in exchange.path and exchange.content:
        exchange.content = re.sub(rb"<Contents>.*</Contents>", b"", exchange.content, flags=re.DOTALL)


def drop_metadata_of_copies(exchange: Exchange) -> None:
    if "x-amz-copy-source" in exchange.headers:
        exchange.headers["x-amz-metadata-directive"] = "REPLACE"


def refuse_copies(exchange: Exchange) -> None:
    if "x-amz-copy-source" in exchange.headers:
        exchange.refuse(501, "NotImplemented")


def refuse_deletions(exchange: Exchange) -> None:
    if exchange.method == "POST" and "delete" in exchange.path:
        exchange.refuse(501, "NotImplemented")


def refuse_writes(exchange: Exchange) -> None:
    """Credentials that may only read."""
    if exchange.method in ("PUT", "POST", "DELETE"):
        exchange.refuse(403, "AccessDenied")


def have_no_space(exchange: Exchange) -> None:
    """A store whose disk is full, as MinIO answers then."""
    if exchange.method == "PUT":
        exchange.refuse(507, "XMinioStorageFull")


def exceed_quota(exchange: Exchange) -> None:
    """A bucket whose quota is used up, as Ceph answers then."""
    if exchange.method == "PUT":
        exchange.refuse(403, "QuotaExceeded")


def refuse_everything(exchange: Exchange) -> None:
    """Credentials that are not known."""
    exchange.refuse(403, "InvalidAccessKeyId")


def be_overloaded(exchange: Exchange) -> None:
    exchange.refuse(503, "SlowDown")


class _Handler(BaseHTTPRequestHandler):
    """Forwards a request with a signature of its own, because a signature covers the headers that are changed."""

    protocol_version = "HTTP/1.1"
    change: Change
    storage: "Storage"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        dropped = ("authorization", "connection", "host", "x-amz-date", "x-amz-content-sha256", "content-length")
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() not in dropped}
        exchange = Exchange(self.command, self.path, headers)
        self.change(exchange)
        if not exchange.status:
            self._send_on(exchange, body)
            self.change(exchange)
        self.send_response(exchange.status)
        for name, value in exchange.response_headers.items():
            self.send_header(name, value)
        # The response to HEAD keeps the length that the object store gives.
        if "content-length" not in exchange.response_headers:
            self.send_header("content-length", str(len(exchange.content)))
        self.end_headers()
        if exchange.method != "HEAD":
            self.wfile.write(exchange.content)

    def _send_on(self, exchange: Exchange, body: bytes) -> None:
        signed = AWSRequest(exchange.method, f"{self.storage.endpoint}{exchange.path}", exchange.headers, body)
        S3SigV4Auth(Credentials(self.storage.access_key, self.storage.secret_key), "s3", self.storage.region).add_auth(
            signed
        )
        connection = HTTPConnection(urlsplit(self.storage.endpoint).netloc, timeout=10)
        connection.request(exchange.method, exchange.path, body, dict(signed.headers.items()))
        response = connection.getresponse()
        exchange.status, exchange.content = response.status, response.read()
        kept = {name.lower(): value for name, value in response.getheaders()}
        dropped = {"transfer-encoding", "connection", "date", "server"}
        if exchange.method != "HEAD":
            dropped |= {"content-length"}
        exchange.response_headers = {name: value for name, value in kept.items() if name not in dropped}
        connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward

    def log_message(self, *_: object) -> None: ...


@contextmanager
def open_storage_proxy(storage: "Storage", change: Change) -> Iterator[str]:
    """Yield the URL of an object store that lacks something."""
    handler = type("Handler", (_Handler,), {"change": staticmethod(change), "storage": storage})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
