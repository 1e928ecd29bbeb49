"""The health server of worker and steward: what it serves, and to whom."""

import http.client
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry

from shared.readiness import Readiness
from worker.runtime.health_server import HealthServer

READINESS = Readiness({"redis": "full", "storage": "unreachable"})
FOREIGN_PAGES = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:5173"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "same-site", "Referer": "https://evil.example/"},
]


@pytest.fixture(scope="module")
def local_server() -> Iterator[HealthServer]:
    yield from serve("127.0.0.1")


@pytest.fixture(scope="module")
def public_server() -> Iterator[HealthServer]:
    yield from serve("0.0.0.0")


def serve(host: str) -> Iterator[HealthServer]:
    server = HealthServer(
        (host, 0),
        CollectorRegistry(),
        is_healthy=lambda: True,
        check_readiness=lambda: READINESS,
        client_timeout_seconds=1.0,
    )
    server.start()
    yield server
    server.stop()


def get(
    server: HealthServer, path: str, host: str, headers: Mapping[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)) as connection:
        connection.request("GET", path, headers={"Host": host, **(headers or {})})
        response = connection.getresponse()
        response.read()
        return response.status, response.headers


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8001", "[::1]:8001", "127.9.9.9:1", "localhost.", ""])
def test_a_name_of_loopback_is_served(local_server: HealthServer, host: str) -> None:
    statuses = [get(local_server, path, host)[0] for path in ("/healthz", "/readyz", "/metrics", "/v1/jobs")]

    assert statuses == [200, 503, 200, 404]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8001", "127.0.0.1.evil.example", "localhost.evil", "x@localhost", "[", "@"]
)
@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
def test_another_name_is_not_served_on_loopback(local_server: HealthServer, path: str, host: str) -> None:
    assert get(local_server, path, host)[0] == 421


def test_every_name_is_served_elsewhere(public_server: HealthServer) -> None:
    assert get(public_server, "/metrics", "worker-1.pods.example:8001", FOREIGN_PAGES[0])[0] == 200


@pytest.mark.parametrize("headers", FOREIGN_PAGES)
def test_a_foreign_page_is_refused_on_loopback(local_server: HealthServer, headers: dict[str, str]) -> None:
    statuses = [get(local_server, path, "127.0.0.1", headers)[0] for path in ("/healthz", "/readyz", "/metrics")]

    assert statuses == [403, 403, 403]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:8001"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
def test_a_page_of_its_own_and_a_link_are_answered(local_server: HealthServer, headers: dict[str, str]) -> None:
    assert get(local_server, "/metrics", "127.0.0.1:8001", headers)[0] == 200


def test_a_page_of_another_site_may_not_read_it(public_server: HealthServer) -> None:
    _, headers = get(public_server, "/metrics", "127.0.0.1", FOREIGN_PAGES[0])

    assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_a_client_that_sends_half_a_request_is_dropped(local_server: HealthServer) -> None:
    with socket.create_connection(("127.0.0.1", local_server.port), timeout=15) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost:")

        assert client.recv(1) == b""
