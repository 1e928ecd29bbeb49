"""A gateway that is told to stop answers every request that it has accepted, and leaves no job without a caller."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.settings import ApiSettings
from api.wsgi import build_service
from deploy.local.servers import LOOPBACK
from shared.jobs.model import JobState
from tests.conftest import Storage
from tests.support.gateway import GatewayUnderTest, list_queued_ids, run_job
from tests.support.jobs import png
from tests.support.polling import wait_until
from tests.support.process_memory import list_descendants
from tests.support.raw_gateway import RawGateway, build_environment, build_get

GRACE_SECONDS = 4
ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Answer:
    """A response, and when it came, by time.monotonic()."""

    head: str
    body: bytes
    at: float

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def is_last(self) -> bool:
        return "connection: close" in self.head.lower()


@pytest.fixture
def process(tmp_path: Path, clean_redis: str, storage: Storage, bucket_name: str) -> Iterator[RawGateway]:
    env = {
        **build_environment(clean_redis, storage, bucket_name),
        "MASKMILL_PROCESSES": "1",
        "MASKMILL_METRICS_BIND": "off",
        "MASKMILL_GRACEFUL_TIMEOUT_SECONDS": str(GRACE_SECONDS),
        "MASKMILL_COLD_START_SECONDS": "60",
    }
    with RawGateway(tmp_path, env) as running:
        yield running.wait_ready()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def exchange(process: RawGateway, request: bytes) -> Answer:
    with socket.create_connection((LOOPBACK, process.port), timeout=30) as connection:
        connection.sendall(request)
        return receive(connection)


def receive(connection: socket.socket) -> Answer:
    """Receive a response, up to the end of the connection."""
    response = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = response.partition(b"\r\n\r\n")
    return Answer(head.decode(), body, time.monotonic())


def build_post(path: str) -> bytes:
    """Return a request over a connection that the client would keep."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(png())}\r\n\r\n"
    return head.encode() + png()


def build_poll(job_id: str) -> bytes:
    return f"GET /v1/jobs/{job_id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def start_sync_call(process: RawGateway, pool: ThreadPoolExecutor, gateway: GatewayUnderTest) -> tuple[Any, str]:
    """Send a synchronous call; return its future answer, and its job once that is queued."""
    answer: Future[Answer] = pool.submit(exchange, process, build_post("/"))
    wait_until(lambda: list_queued_ids(gateway), "the job of the call")
    return answer, list_queued_ids(gateway)[0]


def terminate(process: RawGateway) -> float:
    """Send SIGTERM; return when."""
    process.terminate()
    return time.monotonic()


def test_a_long_poll_ends_at_once_with_the_job_so_far(
    process: RawGateway, gateway: GatewayUnderTest, pool: ThreadPoolExecutor
) -> None:
    job_id = gateway.client.post("/v1/jobs", data=png()).json["id"]
    polls = [pool.submit(exchange, process, build_poll(job_id)) for _ in range(3)]
    wait_until(lambda: count_connections(process) == 3, "the polls")

    stopped_at = terminate(process)
    answers = [poll.result(timeout=15) for poll in polls]

    assert [answer.status for answer in answers] == [200] * 3
    assert all(b'"state":"queued"' in answer.body.replace(b" ", b"") and answer.is_last for answer in answers)
    assert max(answer.at for answer in answers) - stopped_at < 2
    wait_until(lambda: process.exit_code == 0, "the end of the gateway", seconds=GRACE_SECONDS)


def test_a_call_that_finishes_within_the_grace_period_gets_its_masks(
    process: RawGateway, gateway: GatewayUnderTest, pool: ThreadPoolExecutor
) -> None:
    call, job_id = start_sync_call(process, pool, gateway)

    terminate(process)
    wait_until(lambda: not can_connect(process), "the end of listening")
    run_job(gateway, job_id)

    answer = call.result(timeout=15)
    assert (answer.status, answer.is_last) == (200, True)
    assert b'"mask"' in answer.body
    wait_until(lambda: process.exit_code == 0, "the end of the gateway", seconds=GRACE_SECONDS)


def test_a_call_that_cannot_finish_is_told_so_late_and_its_job_is_canceled(
    process: RawGateway, gateway: GatewayUnderTest, pool: ThreadPoolExecutor
) -> None:
    call, job_id = start_sync_call(process, pool, gateway)

    stopped_at = terminate(process)
    answer = call.result(timeout=15)

    assert (answer.status, answer.is_last) == (503, True)
    assert b"gateway_stopping" in answer.body
    assert "Retry-After: 1" in answer.head
    assert GRACE_SECONDS - ANSWER_SECONDS - 0.1 < answer.at - stopped_at < GRACE_SECONDS
    assert gateway.stores.jobs.get(job_id).state is JobState.CANCELED
    assert list_queued_ids(gateway) == []
    wait_until(lambda: process.exit_code == 0, "the end of the gateway", seconds=GRACE_SECONDS)


@pytest.mark.parametrize("signals", [["SIGINT"], ["SIGQUIT"], ["SIGTERM", "SIGINT"], ["SIGTERM", "SIGQUIT"]])
def test_a_quick_stop_answers_at_once(
    process: RawGateway, gateway: GatewayUnderTest, pool: ThreadPoolExecutor, signals: list[str]
) -> None:
    call, job_id = start_sync_call(process, pool, gateway)

    for name in signals:
        os.kill(process.pid, signal.Signals[name])
        wait_until(lambda: not can_connect(process), "the end of listening")
    stopped_at = time.monotonic()
    answer = call.result(timeout=15)

    assert (answer.status, answer.is_last) == (503, True)
    assert b"gateway_stopping" in answer.body
    assert answer.at - stopped_at < 1
    assert gateway.stores.jobs.get(job_id).state is JobState.CANCELED
    wait_until(lambda: process.exit_code == 0, "the end of the gateway", seconds=2)


def test_a_job_that_another_caller_waits_for_is_not_canceled(
    process: RawGateway, gateway: GatewayUnderTest, pool: ThreadPoolExecutor
) -> None:
    call, job_id = start_sync_call(process, pool, gateway)
    elsewhere = pool.submit(gateway.client.post, "/", data=png())
    wait_until(lambda: gateway.stores.jobs._redis.hget(f"mm:job:{job_id}", "waiters") == "2", "the second caller")

    terminate(process)
    assert call.result(timeout=15).status == 503
    run_job(gateway, job_id)

    assert elsewhere.result(timeout=15).status_code == 200


@pytest.mark.parametrize("begun", [build_post("/v1/jobs")[:-5], b"GET /v1/jobs HTTP/1.1\r\nHost:"])
def test_a_request_that_has_not_come_to_its_end_is_told_so_late(process: RawGateway, begun: bytes) -> None:
    with socket.create_connection((LOOPBACK, process.port), timeout=30) as connection:
        connection.sendall(begun)
        wait_until(lambda: count_connections(process) == 1, "the connection")

        stopped_at = terminate(process)
        answer = receive(connection)

    assert (answer.status, answer.is_last) == (503, True)
    assert b"gateway_stopping" in answer.body
    assert "Retry-After: 1" in answer.head
    assert GRACE_SECONDS - ANSWER_SECONDS - 0.1 < answer.at - stopped_at < GRACE_SECONDS
    wait_until(lambda: process.exit_code == 0, "the end of the gateway", seconds=GRACE_SECONDS)


def test_connections_in_the_backlog_get_an_answer(process: RawGateway) -> None:
    pids = list_descendants(process.pid)
    request = build_get("/healthz", "Host: localhost")
    with ExitStack() as stack:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        connections = [
            stack.enter_context(socket.create_connection((LOOPBACK, process.port), timeout=10)) for _ in range(100)
        ]
        # Half of them send their request when the gateway has begun to stop.
        for connection in connections[::2]:
            connection.sendall(request)
        process.terminate()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not can_connect(process), "the end of listening")
        for connection in connections[1::2]:
            connection.sendall(request)

        assert [receive(connection).status for connection in connections] == [200] * 100
    wait_until(lambda: process.exit_code == 0, "the end of the gateway", seconds=GRACE_SECONDS)


def test_no_connection_comes_between_the_backlog_and_the_end_of_listening(process: RawGateway) -> None:
    """The system would complete it, and reset it when the socket is closed."""
    _, worker = list_descendants(process.pid)
    os.kill(worker, signal.SIGSTOP)
    early = socket.create_connection((LOOPBACK, process.port), timeout=10)

    process.terminate()
    try:
        wait_until(lambda: not can_connect(process), "the end of new connections")
    finally:
        os.kill(worker, signal.SIGCONT)

    early.sendall(build_get("/healthz", "Host: localhost"))
    assert receive(early).status == 200
    early.close()


def test_the_subscription_ends_with_the_process(gateway: GatewayUnderTest, clean_redis: str) -> None:
    before = find_subscriptions()
    service = build_service(ApiSettings(**gateway.settings.model_dump()), are_stores_checked=True)
    job_id = gateway.client.post("/v1/jobs", data=png()).json["id"]
    environ = {"PATH_INFO": f"/v1/jobs/{job_id}", "QUERY_STRING": "wait=0.1", **ENVIRON}

    assert list(service.app(dict(environ), lambda *_: None))
    (subscription,) = find_subscriptions() - before
    service.close()

    subscription.join(timeout=5)
    assert not subscription.is_alive()


ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "8000",
    "HTTP_HOST": "localhost",
    "wsgi.url_scheme": "http",
    "wsgi.input": None,
}


def find_subscriptions() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "job-events"}


def count_connections(process: RawGateway) -> int:
    """Return how many connections the gateway has accepted."""
    lines = Path("/proc/net/tcp").read_text().splitlines()
    local = f":{process.port:04X}"
    established = [line.split() for line in lines[1:]]
    return sum(fields[1].endswith(local) and fields[3] == "01" and fields[9] != "0" for fields in established)


def can_connect(process: RawGateway) -> bool:
    try:
        socket.create_connection((LOOPBACK, process.port), timeout=0.3).close()
    except OSError:
        return False
    return True
