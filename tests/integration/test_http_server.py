"""The HTTP server of a gateway process with clients that are slow, silent, many, or unusual; with short deadlines.

The app needs no stores, so that only the server is tested.
"""

import hashlib
import http.client
import json
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.local.processes import Process
from deploy.local.servers import LOOPBACK, free_ports
from tests.support.environment import copy_environment
from tests.support.polling import wait_until

TOKEN = "s3cret"
HEADER_SECONDS = 1.5
TRANSFER_SECONDS = 1.5
KEEP_ALIVE_SECONDS = 1.5
LINGER_SECONDS = 1.0
# Deadlines are looked at twice a second, and the machine may be busy.
SLACK_SECONDS = 4.0
MAX_BODY_BYTES = 200_000
MAX_BUFFERED_BYTES = 1_000_000
MAX_PER_PEER = 50
THREADS = 3
PROXY = "127.0.0.9"

AUTHORIZATION = f"Authorization: Bearer {TOKEN}\r\n"


class EchoServer(Process):
    """`python -m tests.support.echo_server` on free ports, with one process and few threads."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.port, self.metrics_port = free_ports(2)
        defaults = {
            "bind": f"{LOOPBACK}:{self.port}",
            "metrics_bind": f"{LOOPBACK}:{self.metrics_port}",
            "processes": 1,
            "threads": THREADS,
            "tokens": f"shop:{TOKEN}",
            "header_timeout_seconds": HEADER_SECONDS,
            "transfer_timeout_seconds": TRANSFER_SECONDS,
            "keep_alive_seconds": KEEP_ALIVE_SECONDS,
            "linger_seconds": LINGER_SECONDS,
            "max_upload_bytes": MAX_BODY_BYTES,
            "max_buffered_bytes": MAX_BUFFERED_BYTES,
            "max_connections_per_peer": MAX_PER_PEER,
            "trusted_proxies": f"{PROXY}/32",
        }
        plain = copy_environment()
        env = {f"MASKMILL_{name.upper()}": str(value) for name, value in (defaults | settings).items()}
        command = [sys.executable, "-m", "tests.support.echo_server"]
        super().__init__("The server", command, log=folder / "server.log", env={**plain, **env})

    def is_ready(self) -> bool:
        try:
            return self.get("/healthz")[0] == 200
        except OSError:
            return False

    def connect(self, sent: bytes | str = b"", *, source: str = "") -> socket.socket:
        """Open a connection, from a loopback address if one is given, and send bytes."""
        source_address = (source, 0) if source else None
        client = socket.create_connection((LOOPBACK, self.port), timeout=20, source_address=source_address)
        client.sendall(sent.encode() if isinstance(sent, str) else sent)
        return client

    def exchange(self, sent: bytes | str, *, source: str = "") -> bytes:
        """Send bytes and return everything that comes until the server closes."""
        with self.connect(sent, source=source) as client:
            return receive_all(client)

    def get(self, path: str, *, port: int | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(LOOPBACK, port or self.port, timeout=20)
        with closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def list_dropped(self) -> list[str]:
        """Return the reasons of the connections that were dropped so far."""
        return list(self.get("/dropped", port=self.metrics_port)[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoServer]:
    with EchoServer(tmp_path_factory.mktemp("server")) as process:
        yield process.wait_ready()


def receive_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def post(length: int, headers: str = AUTHORIZATION) -> str:
    return f"POST /echo HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n"


def get_status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def parse_json(response: bytes) -> Any:
    return json.loads(response.partition(b"\r\n\r\n")[2])


@contextmanager
def measure(max_seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < max_seconds


# Slow and silent clients.


@pytest.mark.parametrize("beginning", ["GET /echo HTTP/1.1\r\nX: ", "G"])
def test_half_a_head_is_answered_408_after_its_deadline(server: EchoServer, beginning: str) -> None:
    with measure(HEADER_SECONDS + SLACK_SECONDS):
        response = server.exchange(beginning)

    assert get_status(response) == 408
    assert parse_json(response)["error_type"] == "request_timeout"


def test_a_trickled_head_does_not_gain_time(server: EchoServer) -> None:
    with server.connect("GET /echo HTTP/1.1\r\nX: ") as client, measure(HEADER_SECONDS + SLACK_SECONDS):
        response = trickle(client)

    assert get_status(response) == 408


def test_a_trickled_body_is_answered_408(server: EchoServer) -> None:
    with server.connect(post(1000)) as client, measure(TRANSFER_SECONDS + SLACK_SECONDS):
        response = trickle(client)

    assert get_status(response) == 408
    assert parse_json(response)["error_type"] == "request_timeout"
    assert "body_timeout" in server.list_dropped()


def test_a_trickled_chunk_is_answered_408(server: EchoServer) -> None:
    head = f"POST /echo HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}Transfer-Encoding: chunked\r\n\r\n1000\r\n"
    with server.connect(head) as client, measure(TRANSFER_SECONDS + SLACK_SECONDS):
        response = trickle(client)

    assert get_status(response) == 408


def test_a_steady_body_takes_longer_than_the_timeout(server: EchoServer) -> None:
    piece = bytes(20_000)
    with server.connect(post(8 * len(piece))) as client:
        started = time.monotonic()
        for _ in range(8):
            # 40 KB/s, with pauses shorter than the timeout.
            let_time_pass(0.5)
            client.sendall(piece)
        response = client.recv(1 << 16)

    assert time.monotonic() - started > 2 * TRANSFER_SECONDS
    assert get_status(response) == 200
    assert parse_json(response)["body_bytes"] == 160_000


@pytest.mark.parametrize("sent", ["", "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_an_idle_connection_is_closed(server: EchoServer, sent: str) -> None:
    with measure(HEADER_SECONDS + SLACK_SECONDS):
        response = server.exchange(sent)

    assert response.count(b"HTTP/1.1") == bool(sent)


def test_slow_clients_hold_no_thread(server: EchoServer) -> None:
    halves = ["GET /echo HTTP/1.1\r\n", post(1000), "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]
    with ExitStack() as clients:
        for number in range(10 * THREADS):
            clients.enter_context(server.connect(halves[number % len(halves)]))

        with measure(1.0):
            assert server.get("/echo")[0] == 200


def test_a_client_that_reads_nothing_holds_no_thread_and_is_dropped(server: EchoServer) -> None:
    request = "GET /large/8000000 HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as clients:
        for _ in range(2 * THREADS):
            clients.enter_context(server.connect(request))

        with measure(1.0):
            assert server.get("/echo")[0] == 200
        wait_until(lambda: {"read_timeout", "unread_responses"} & set(server.list_dropped()), seconds=10)


def test_a_large_response_reaches_a_client_that_reads_it_slowly(server: EchoServer) -> None:
    with server.connect("GET /large/3000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as client:
        total, started = 0, time.monotonic()
        while data := client.recv(1 << 18):
            total += len(data)
            let_time_pass(0.1)

    assert total > 3_000_000
    assert time.monotonic() - started > 0.5


def test_answered_clients_that_do_not_close_delay_nobody(server: EchoServer) -> None:
    with ExitStack() as clients:
        for _ in range(40):
            clients.enter_context(server.connect("GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))

        with measure(1.0):
            assert server.get("/echo")[0] == 200


def test_health_does_not_wait_for_a_thread(server: EchoServer) -> None:
    with ExitStack() as clients:
        for _ in range(5 * THREADS):
            clients.enter_context(server.connect("GET /wait/3.0 HTTP/1.1\r\nHost: x\r\n\r\n"))

        with measure(1.0):
            assert server.get("/healthz")[0] == 200
            assert server.get("/healthz", port=server.metrics_port)[0] == 200


# Bounds.


def test_the_oldest_connection_of_a_peer_is_dropped_and_others_remain(server: EchoServer) -> None:
    with ExitStack() as clients:
        other = clients.enter_context(server.connect("GET /echo HTTP/1.1\r\n", source="127.0.0.3"))
        proxied = clients.enter_context(server.connect("GET /echo HTTP/1.1\r\n", source=PROXY))
        flood = [
            clients.enter_context(server.connect("GET /echo HTTP/1.1\r\n", source="127.0.0.2"))
            for _ in range(MAX_PER_PEER + 1)
        ]

        assert flood[0].recv(1) == b""
        for client in (other, proxied, flood[-1]):
            client.sendall(b"Host: x\r\n\r\n")
            assert get_status(client.recv(1 << 16)) == 200
    assert "peer_limit" in server.list_dropped()


def test_waiting_requests_do_not_count_to_the_bound_of_a_peer(tmp_path: Path) -> None:
    with EchoServer(tmp_path, max_connections_per_peer=2, threads=8) as small, ExitStack() as clients:
        small.wait_ready()
        waiting = [clients.enter_context(small.connect("GET /wait/1.0 HTTP/1.1\r\nHost: x\r\n\r\n")) for _ in range(8)]

        assert {get_status(client.recv(1 << 16)) for client in waiting} == {200}


def test_the_bound_of_all_connections_drops_the_oldest(tmp_path: Path) -> None:
    with EchoServer(tmp_path, max_connections=THREADS + 5) as small, ExitStack() as clients:
        small.wait_ready()
        flood = [
            clients.enter_context(small.connect("GET /echo HTTP/1.1\r\n", source=f"127.0.0.{number}"))
            for number in range(20, 40)
        ]

        assert flood[0].recv(1) == b""
        assert small.get("/echo")[0] == 200


def test_uploads_over_the_budget_are_refused_and_accepted_later(server: EchoServer) -> None:
    """One address does not keep others out: neither by what it promises, nor by what it has sent."""
    count = MAX_BUFFERED_BYTES // MAX_BODY_BYTES
    with ExitStack() as clients:
        for _ in range(2 * count):
            clients.enter_context(server.connect(post(MAX_BODY_BYTES), source="127.0.0.6"))
        half = post(MAX_BODY_BYTES).encode() + bytes(MAX_BODY_BYTES * 9 // 10)
        flood = [clients.enter_context(server.connect(half, source="127.0.0.4")) for _ in range(count)]
        other = clients.enter_context(server.connect(source="127.0.0.5"))
        other.sendall(post(MAX_BODY_BYTES, f"{AUTHORIZATION}Connection: close\r\n").encode() + bytes(MAX_BODY_BYTES))
        refused = next(one for one in flood if select.select([one], [], [], 1.0)[0]).recv(1 << 16)

        assert get_status(receive_all(other)) == 200
    assert get_status(refused) == 429
    assert b"Retry-After: " in refused
    assert parse_json(refused)["error_type"] == "uploads_full"
    wait_until(lambda: get_status(upload(server, bytes(MAX_BODY_BYTES), source="127.0.0.4")) == 200)


def test_chunks_count_to_the_budget(tmp_path: Path) -> None:
    head = f"POST /echo HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (30_000, bytes(30_000))
    with EchoServer(tmp_path, max_buffered_bytes=100_000) as small:
        small.wait_ready()

        response = small.exchange(head.encode() + 4 * chunk + b"0\r\n\r\n")

    assert get_status(response) == 429


# Requests that are refused before their body.


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (post(1000, ""), 401),
        (post(1000, "Authorization: Bearer wrong\r\n"), 401),
        (post(MAX_BODY_BYTES + 1), 413),
        (post(10**15), 413),
        (post(1000, "").replace("/echo", "/none"), 404),
        (post(1000, "").replace("POST", "PUT"), 405),
    ],
)
def test_a_refused_request_is_answered_before_its_body_comes(
    server: EchoServer, request_head: str, status: int
) -> None:
    with server.connect(request_head) as client, measure(1.0):
        response = client.recv(1 << 16)

    assert get_status(response) == status
    assert b"\r\nConnection: close\r\n" in response


def test_a_client_that_expects_100_sends_no_body_that_is_refused(server: EchoServer) -> None:
    expect = f"{AUTHORIZATION}Expect: 100-continue\r\n"
    with server.connect(post(5, expect)) as client:
        interim = client.recv(1 << 16)
        client.sendall(b"hello")
        final = client.recv(1 << 16)
    refused = server.exchange(post(MAX_BODY_BYTES + 1, expect))

    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert parse_json(final)["body_bytes"] == 5
    assert get_status(refused) == 413


def test_a_refusal_reaches_a_client_that_is_still_sending(server: EchoServer) -> None:
    body = bytes(20_000_000)

    response = upload(server, body)

    assert get_status(response) == 413


# The protocol.


@pytest.mark.parametrize("size", [0, 1, 65_536, MAX_BODY_BYTES])
def test_a_body_arrives_unchanged_by_length_and_in_chunks(server: EchoServer, size: int) -> None:
    body = os.urandom(size)
    head = f"POST /echo HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunks = [body[start : start + 7919] for start in range(0, size, 7919)]
    encoded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"

    responses = [upload(server, body), server.exchange(head.encode() + encoded)]

    expected = hashlib.sha256(body).hexdigest()
    assert [parse_json(response)["body_sha256"] for response in responses] == [expected, expected]


def test_pipelined_requests_are_answered_in_order(server: EchoServer) -> None:
    requests = [f"GET /echo?{number} HTTP/1.1\r\nHost: x\r\n\r\n" for number in range(5)]
    bodies = [post(5).replace("/echo", f"/echo?{number}") + "hello" for number in range(5, 8)]
    last = "GET /echo?8 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    response = server.exchange("".join([*requests, *bodies, last])).decode()

    positions = [response.index(f'"path":"/echo?{number}"') for number in range(9)]
    assert positions == sorted(positions)
    assert response.count("HTTP/1.1 200 OK") == 9


def test_bytes_that_come_one_at_a_time_make_a_request(server: EchoServer) -> None:
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in (post(5) + "hello").encode():
            client.send(bytes([byte]))
        response = client.recv(1 << 16)

    assert parse_json(response)["body_bytes"] == 5


@pytest.mark.parametrize(
    ("head", "is_kept"),
    [
        ("GET /echo HTTP/1.0\r\n\r\n", False),
        ("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        ("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n", True),
        ("GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", False),
    ],
)
def test_the_connection_is_kept_as_the_client_asks(server: EchoServer, head: str, is_kept: bool) -> None:
    with server.connect(head) as client:
        first = client.recv(1 << 16)
        client.settimeout(0.5)
        try:
            is_closed = client.recv(1) == b""
        except TimeoutError:
            is_closed = False

    assert get_status(first) == 200
    assert is_closed is not is_kept


def test_head_has_the_headers_alone_and_a_stream_comes_in_chunks(server: EchoServer) -> None:
    head = server.exchange("HEAD /large/500 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    stream = server.exchange("GET /chunks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert b"Content-Length: 500" in head and head.endswith(b"\r\n\r\n")
    assert stream.endswith(b"4\r\none,\r\n4\r\ntwo,\r\n5\r\nthree\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /echo HTTP/1.1\nHost: x\n\n",
        b"GET /echo HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 10_000,
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
    ],
)
def test_a_malformed_request_is_answered_in_json_at_once(server: EchoServer, request_bytes: bytes) -> None:
    with measure(HEADER_SECONDS + SLACK_SECONDS):
        response = server.exchange(request_bytes)

    assert 400 <= get_status(response) < 500 or get_status(response) == 501
    assert parse_json(response)["error_type"] in {"unreadable_body", "request_timeout"}


def test_broken_chunks_are_answered_400(server: EchoServer) -> None:
    head = f"POST /echo HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}Transfer-Encoding: chunked\r\n\r\nzz\r\n"

    response = server.exchange(head)

    assert get_status(response) == 400
    assert "chunks" in parse_json(response)["error"]


def test_a_body_that_ends_early_is_answered_400(server: EchoServer) -> None:
    with server.connect(post(1000) + "abc") as client:
        client.shutdown(socket.SHUT_WR)
        response = receive_all(client)

    assert get_status(response) == 400
    assert "cut short" in parse_json(response)["error"]


def test_a_waiting_request_notices_that_its_client_has_gone(server: EchoServer) -> None:
    for pipelined in ("", "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"):
        before = server.log.read_text().count("gone=True")
        server.connect("GET /wait/15.0 HTTP/1.1\r\nHost: x\r\n\r\n" + pipelined).close()

        wait_until(lambda count=before: server.log.read_text().count("gone=True") > count)


def test_an_app_that_crashes_is_answered_500(server: EchoServer) -> None:
    status, error = server.get("/crash")

    assert (status, error["error_type"]) == (500, "internal")


def test_the_client_of_a_trusted_proxy_is_the_one_that_it_names(server: EchoServer) -> None:
    request = "GET /echo HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.7\r\nConnection: close\r\n"
    request += "X-Forwarded-Proto: https\r\n\r\n"

    trusted = parse_json(server.exchange(request, source=PROXY))
    other = parse_json(server.exchange(request, source="127.0.0.8"))

    assert (trusted["client"], trusted["scheme"]) == ("192.0.2.7", "https")
    assert (other["client"], other["scheme"]) == ("127.0.0.8", "http")


def test_a_unix_socket_is_served(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with EchoServer(tmp_path, bind=f"unix:{path}") as server, socket.socket(socket.AF_UNIX) as client:
        wait_until(lambda: can_connect(client, str(path)), seconds=20)
        client.sendall(b"GET /echo HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\n")
        response = receive_all(client)

    assert server.exit_code == 0
    assert parse_json(response)["client"] == "192.0.2.7"


def test_a_graceful_stop_answers_what_has_begun(tmp_path: Path) -> None:
    with EchoServer(tmp_path, transfer_timeout_seconds=10) as server:
        server.wait_ready()
        with (
            server.connect("GET /wait/1.5 HTTP/1.1\r\nHost: x\r\n\r\n") as waiting,
            server.connect(post(10) + "hello") as uploading,
            server.connect("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n") as idle,
        ):
            assert get_status(idle.recv(1 << 16)) == 200
            wait_until(lambda: get_status(server.exchange(post(0, f"{AUTHORIZATION}Connection: close\r\n"))) == 200)
            server.terminate()
            wait_until(lambda: "Handling signal" in server.log.read_text())
            uploading.sendall(b"world")

            responses = [receive_all(client) for client in (waiting, uploading, idle)]

        wait_until(lambda: server.exit_code is not None, seconds=10)
    assert [get_status(response) for response in responses[:2]] == [200, 200]
    assert parse_json(responses[1])["body_bytes"] == 10
    # The other one was begun before the stop, when its connection could still be kept.
    assert b"Connection: close" in responses[1]
    assert responses[2] == b""
    assert server.exit_code == 0


def upload(server: EchoServer, body: bytes, *, source: str = "") -> bytes:
    head = post(len(body), f"{AUTHORIZATION}Connection: close\r\n").encode()
    return server.exchange(head + body, source=source)


def trickle(client: socket.socket) -> bytes:
    """Send a byte every 0.2 s until the server answers."""
    client.settimeout(0.2)
    while True:
        try:
            client.send(b"a")
        except OSError:
            return b""
        try:
            return client.recv(1 << 16)
        except TimeoutError:
            continue


def let_time_pass(seconds: float) -> None:
    passed_at = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > passed_at)


def can_connect(client: socket.socket, path: str) -> bool:
    try:
        client.connect(path)
    except OSError:
        return False
    return True
