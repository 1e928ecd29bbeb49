"""Clients that linger, send half of a request, or stay idle, while others are served; with the default deadlines.

Each test prints its figures (pytest -s).
"""

import base64
import http.client
import json
import resource
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest

from deploy.local.stack import Stack
from tests.support.environment import copy_environment
from tests.support.images import coffee, jpeg
from tests.support.jobs import png
from tests.support.polling import wait_until
from tests.support.process_memory import watch_memory

LOOPBACK = "127.0.0.1"
MAX_HEALTH_SECONDS = 1.0
MAX_PHOTO_SECONDS = 3.0
MAX_DROP_SECONDS = 30.0
MAX_MEGABYTES = 600
OBSERVED_SECONDS = 4.0
UPLOADS = 16
UPLOAD_BYTES = 30_000_000

HALF_HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
HALF_BODY = HALF_HEAD + b"Content-Length: 20000\r\n\r\n" + bytes(10_000)
REQUEST = b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Flood:
    """`addresses`: of loopback, from which the clients connect."""

    name: str
    clients: int
    sent: bytes
    addresses: int = 1


FLOODS = [
    Flood("linger", 60, LAST_REQUEST),
    Flood("half a head", 1500, HALF_HEAD),
    Flood("half a head, 20 addresses", 1500, HALF_HEAD, 20),
    Flood("half a body", 1500, HALF_BODY),
    Flood("half a body, 20 addresses", 1500, HALF_BODY, 20),
    Flood("idle", 5000, REQUEST),
    Flood("idle, 20 addresses", 5000, REQUEST, 20),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole service; it inherits this process's limit of open files."""
    environ = copy_environment()
    with Stack(tmp_path_factory.mktemp("stack"), environ=environ) as running:
        yield running.start()


@pytest.fixture(scope="module", autouse=True)
def _many_open_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 8000:
        pytest.skip(f"5,000 connections need more than {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.name)
def test_others_are_served_meanwhile(stack: Stack, flood: Flood) -> None:
    photo = jpeg(coffee())
    post_photo(stack.port, photo)
    stopped = threading.Event()
    with ThreadPoolExecutor(3) as pool, ExitStack() as clients:
        health = pool.submit(measure, lambda: get_health(stack.port), stopped)
        photos = pool.submit(measure, lambda: post_photo(stack.port, photo), stopped)
        open_clients(stack.port, flood, clients)
        opened_at = time.monotonic()
        wait_until(lambda: time.monotonic() > opened_at + OBSERVED_SECONDS, seconds=2 * OBSERVED_SECONDS)
        stopped.set()
        health_calls, photo_calls = health.result(), photos.result()

    worst_health, worst_photo = find_worst(health_calls, opened_at), find_worst(photo_calls, opened_at)
    print(
        f"{flood.clients} clients, {flood.name}: /healthz within {1000 * worst_health:.0f} ms, "
        f"a photo within {1000 * worst_photo:.0f} ms; while they connect, all at once, "
        f"{1000 * find_worst(health_calls):.0f} and {1000 * find_worst(photo_calls):.0f} ms"
    )
    assert worst_health < MAX_HEALTH_SECONDS
    assert worst_photo < MAX_PHOTO_SECONDS


def open_clients(port: int, flood: Flood, clients: ExitStack) -> None:
    """Connect all, and let each send its bytes."""
    for number in range(flood.clients):
        client = clients.enter_context(socket.socket())
        client.settimeout(20)
        if flood.addresses > 1:
            client.bind((f"127.0.1.{1 + number % flood.addresses}", 0))
        client.connect((LOOPBACK, port))
        client.sendall(flood.sent)


def measure(call: Callable[[], object], stopped: threading.Event) -> list[tuple[float, float]]:
    """Call again and again; return when each call began, and how long it took, in seconds."""
    calls = []
    while not stopped.wait(0.1):
        started = time.monotonic()
        call()
        calls.append((started, time.monotonic() - started))
    return calls


def find_worst(calls: list[tuple[float, float]], since: float = 0.0) -> float:
    """Return how long the longest call took that began since a time."""
    return max(duration for started, duration in calls if started >= since)


def get_health(port: int) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
    with closing(connection):
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200


def post_photo(port: int, photo: bytes) -> None:
    """Have a photo segmented by a worker, not from the cache."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
    with closing(connection):
        connection.request("POST", "/", photo, {"x-use-cache": "false"})
        assert connection.getresponse().status == 200


TRICKLES = {
    "half a head": (HALF_HEAD, b""),
    "a trickled head": (HALF_HEAD + b"X: ", b"a"),
    "half a body": (HALF_BODY, b""),
    "a trickled body": (HALF_BODY, b"a"),
    "a trickled body in chunks": (HALF_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1000\r\n", b"a"),
    "nothing": (b"", b""),
    "a response that is not read": (REQUEST.replace(b"/none", b"/openapi.json") * 2000, b""),
}


def test_a_half_or_trickling_request_is_dropped_within_thirty_seconds(stack: Stack) -> None:
    with ThreadPoolExecutor(len(TRICKLES)) as pool:
        seconds = dict(
            zip(TRICKLES, pool.map(lambda sent: time_until_closed(stack.port, *sent), TRICKLES.values()), strict=True)
        )

    print(", ".join(f"{name}: dropped after {duration:.1f} s" for name, duration in seconds.items()))
    assert max(seconds.values()) < MAX_DROP_SECONDS


def time_until_closed(port: int, beginning: bytes, repeated: bytes) -> float:
    """Return after how many seconds the gateway closes a connection on which a byte is sent every two seconds.

    Nothing is read from it.  That the gateway has closed its sending side alone does not count.
    """
    with socket.create_connection((LOOPBACK, port), timeout=20) as client:
        started = time.monotonic()
        client.setblocking(False)
        poller, half_closed = select.poll(), select.poll()
        poller.register(client, 0)
        half_closed.register(client, select.POLLRDHUP)
        unsent = beginning
        # POLLERR and POLLHUP: reset, or closed on both sides.
        while time.monotonic() - started < MAX_DROP_SECONDS and not poller.poll(2000):
            try:
                if unsent:
                    unsent = unsent[client.send(unsent) :]
                else:
                    client.send(b"a" if half_closed.poll(0) else repeated)
            except BlockingIOError:
                pass
            except OSError:
                break
    return time.monotonic() - started


def test_many_large_uploads_fit_in_600_megabytes(stack: Stack) -> None:
    image = png(640, 480)
    image += bytes(UPLOAD_BYTES * 3 // 4 - len(image))
    body = json.dumps({"inputs": base64.b64encode(image).decode()}).encode()

    with watch_memory(stack.gateway.pid, interval_seconds=0.05) as peak, ThreadPoolExecutor(UPLOADS) as pool:
        statuses = Counter(pool.map(lambda _: post_document(stack.port, body), range(UPLOADS)))

    print(f"{UPLOADS} bodies of {len(body) / 1e6:.0f} MB: at most {peak.nbytes / 1e6:.0f} MB, {dict(statuses)}")
    assert peak.nbytes < MAX_MEGABYTES * 1_000_000
    assert set(statuses) <= {202, 413, 422, 429}
    assert statuses[429] < UPLOADS


def post_document(port: int, body: bytes) -> int:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    with closing(connection):
        connection.request("POST", "/v1/jobs", body)
        response = connection.getresponse()
        assert response.status != 429 or int(response.headers["Retry-After"]) > 0
        return response.status
