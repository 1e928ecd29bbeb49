"""The checks of Host and Origin in a gateway process without tokens, by requests as they are on the wire."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.processes import Process
from deploy.local.servers import LOOPBACK, free_ports
from tests.conftest import Storage
from tests.support.jobs import png


class OpenGateway(Process):
    """`python -m api.wsgi` without tokens, on a free port, or at a path."""

    def __init__(self, folder: Path, env: dict[str, str], bind: str = "") -> None:
        (self.port,) = free_ports(1)
        self.path = bind.removeprefix("unix:")
        address = bind or f"{LOOPBACK}:{self.port}"
        command = [sys.executable, "-m", "api.wsgi"]
        super().__init__("The gateway", command, log=folder / "gateway.log", env={**env, "MASKMILL_BIND": address})

    def is_ready(self) -> bool:
        try:
            return self.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0] == 200
        except OSError:
            return False

    def send(self, request: bytes) -> tuple[int, str]:
        """Send bytes; return the status and the error type of the response."""
        connection = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET)
        with connection:
            connection.settimeout(10)
            connection.connect(self.path or (LOOPBACK, self.port))
            connection.sendall(request)
            response = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        head, _, body = response.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        return status, json.loads(body).get("error_type", "") if b"application/json" in head else ""


@pytest.fixture(scope="module")
def env(redis_url: str, storage: Storage, bucket_name: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MASKMILL_", "PROMETHEUS_"))}
    return {
        **plain,
        "MASKMILL_REDIS_URL": redis_url,
        "MASKMILL_STORAGE_ENDPOINT": storage.endpoint,
        "MASKMILL_STORAGE_BUCKET": bucket_name,
        "MASKMILL_STORAGE_ACCESS_KEY": storage.access_key,
        "MASKMILL_STORAGE_SECRET_KEY": storage.secret_key,
        "MASKMILL_PROCESSES": "1",
    }


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Iterator[OpenGateway]:
    with OpenGateway(tmp_path_factory.mktemp("gateway"), env) as process:
        yield process.wait_ready()


def build_get(target: str, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"GET {target} HTTP/{version}", *headers, "Connection: close", "", ""]
    return "\r\n".join(lines).encode()


REFUSED_NAMES = {
    "a foreign name": build_get("/v1/jobs", "Host: evil.example"),
    "two names, the first one foreign": build_get("/v1/jobs", "Host: evil.example", "Host: localhost"),
    "two names, the second one foreign": build_get("/v1/jobs", "Host: localhost", "Host: evil.example"),
    "no name": build_get("/v1/jobs", version="1.0"),
    "a foreign target": build_get("http://evil.example/v1/jobs", "Host: localhost"),
    "a foreign target with an allowed user": build_get("http://localhost@evil.example/v1/jobs", "Host: localhost"),
    "a foreign header with an allowed target": build_get("http://localhost/v1/jobs", "Host: evil.example"),
    "a user": build_get("/v1/jobs", "Host: localhost@evil.example"),
    "a forwarded name": build_get("/v1/jobs", "Host: evil.example", "X-Forwarded-Host: localhost"),
    "a path that does not exist": build_get("/none", "Host: evil.example"),
    "metrics": build_get("/metrics", "Host: evil.example"),
}


@pytest.mark.parametrize("request_bytes", REFUSED_NAMES.values(), ids=REFUSED_NAMES)
def test_a_foreign_name_is_refused(gateway: OpenGateway, request_bytes: bytes) -> None:
    status, error_type = gateway.send(request_bytes)

    # Gunicorn itself may refuse what is not a request at all.
    assert (status, error_type) == (421, "unknown_host") or status == 400


@pytest.mark.parametrize(
    "request_bytes",
    [
        build_get("/v1/jobs", "Host: localhost"),
        build_get("/v1/jobs", "Host: 127.0.0.1:8000"),
        build_get("/v1/jobs", "Host: [::1]"),
        build_get("http://127.0.0.1/v1/jobs", "Host: 127.0.0.1"),
        build_get("/v1/jobs", "Host: localhost", version="1.0"),
    ],
)
def test_loopback_names_are_served(gateway: OpenGateway, request_bytes: bytes) -> None:
    assert gateway.send(request_bytes)[0] == 200


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=b", "image/png"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_page_cannot_submit_a_job(gateway: OpenGateway, content_type: str, origin: str) -> None:
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nOrigin: {origin}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(png())}\r\nConnection: close\r\n\r\n"
    )

    assert gateway.send(head.encode() + png()) == (403, "foreign_origin")


def test_a_socket_at_a_path_is_no_exception(tmp_path: Path, env: dict[str, str]) -> None:
    with OpenGateway(tmp_path, env, f"unix:{tmp_path / 'gateway.socket'}") as gateway:
        gateway.wait_ready()

        assert gateway.send(build_get("/v1/jobs", "Host: localhost"))[0] == 200
        assert gateway.send(build_get("/v1/jobs", "Host: evil.example"))[0] == 421
