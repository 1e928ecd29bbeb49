"""Synchronous requests are refused by the wait that they would have, which the completions of the workers tell."""

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from werkzeug.test import TestResponse

from shared.jobs.model import JobState, Priority
from shared.jobs.payloads import PayloadStore
from shared.jobs.store import Claim, JobStore, open_job_store
from shared.redis_client import connect
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.gateway import GatewayUnderTest, open_gateway
from tests.support.jobs import MODEL, build_request, build_sync_request, png
from tests.support.periodic import run_periodically
from tests.support.polling import wait_until

WAIT_SECONDS = 1.0
RATE = 20.0


@dataclass
class PacedWorker:
    """Completes one job at each call, without an image of it."""

    jobs: JobStore
    payloads: PayloadStore
    completed: list[str] = field(default_factory=list)

    def run_next(self) -> None:
        claim = self.jobs.attempts.claim(MODEL, worker="paced")
        if isinstance(claim, Claim):
            self.payloads.put_reply(claim.request.id, b"[]")
            self.jobs.finish(claim.request, JobState.SUCCEEDED)
            self.completed.append(claim.request.id)


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    """A gateway that knows one worker."""
    gateway = open_gateway(clean_redis, storage_env, max_sync_wait_seconds=WAIT_SECONDS)
    report_worker(gateway)
    return gateway


def report_worker(gateway: GatewayUnderTest) -> None:
    WorkerRegistry(connect(gateway.settings)).report(WorkerStatus("paced", MODEL, WorkerState.READY, device="cpu"))


@pytest.fixture
def worker(gateway: GatewayUnderTest) -> Iterator[PacedWorker]:
    """A worker that completes RATE jobs a second."""
    worker = open_worker(gateway)
    with run_periodically(worker.run_next, interval_seconds=1 / RATE):
        yield worker


def open_worker(gateway: GatewayUnderTest) -> PacedWorker:
    jobs = open_job_store(connect(gateway.settings), gateway.settings)
    return PacedWorker(jobs, PayloadStore(connect(gateway.settings, decode=False)))


def call(gateway: GatewayUnderTest, number: int, headers: Mapping[str, str] | None = None) -> TestResponse:
    """Send a synchronous request with an image of its own."""
    client, image = gateway.client.application.test_client(), png(8 + number % 50, 8 + number)
    response: TestResponse = client.post("/", data=image, headers=headers)
    return response


def test_callers_are_held_for_the_work_that_is_allowed_and_the_others_refused_at_once(
    gateway: GatewayUnderTest, worker: PacedWorker
) -> None:
    """Four callers arrive for each job that the worker completes."""
    started: list[float] = []

    def call_timed(number: int) -> tuple[TestResponse, float]:
        start = time.monotonic()
        return call(gateway, number), time.monotonic() - start

    with ThreadPoolExecutor(400) as threads:
        futures = []
        for number in range(320):
            started.append(time.monotonic())
            futures.append(threads.submit(call_timed, number))
            wait_until(lambda: time.monotonic() > started[0] + len(started) / (4 * RATE), poll_interval_seconds=0.002)
        answers = [future.result() for future in futures]

    statuses = Counter(response.status_code for response, _ in answers)
    assert set(statuses) == {200, 429}
    assert statuses[200] >= 0.8 * 4 * RATE
    assert statuses[429] >= 100
    refused = [(response, seconds) for response, seconds in answers if response.status_code == 429]
    assert {response.json["error_type"] for response, _ in refused} == {"wait_too_long"}
    assert statistics.median(seconds for _, seconds in refused) < 0.1


def test_a_request_is_refused_behind_a_backlog_and_accepted_once_it_is_done(
    gateway: GatewayUnderTest, worker: PacedWorker
) -> None:
    for _ in range(8 * int(RATE)):
        worker.jobs.create(build_sync_request())
    with ThreadPoolExecutor(1) as threads:
        # This one comes before the rate is known, and the polls while it waits measure the rate.
        early = threads.submit(call, gateway, 1)
        wait_until(lambda: len(worker.completed) > 3 * RATE, seconds=10)
        refused = call(gateway, 2)
        assert early.result(timeout=60).status_code == 200

    assert (refused.status_code, refused.json["error_type"]) == (429, "wait_too_long")
    assert "/v1/jobs" in refused.json["error"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    wait_until(lambda: call(gateway, 2).status_code == 200, seconds=5)


def test_jobs_are_accepted_however_long_they_wait(gateway: GatewayUnderTest, worker: PacedWorker) -> None:
    for _ in range(5 * int(RATE)):
        worker.jobs.create(build_request(priority=Priority.NORMAL))
    wait_until(lambda: len(worker.completed) > RATE, seconds=10)

    assert gateway.client.post("/v1/jobs", data=png()).status_code == 202
    assert call(gateway, 4).status_code == 200


def test_without_a_worker_nothing_is_refused_for_its_wait(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, max_sync_wait_seconds=0.001, cold_start_seconds=1)
    for _ in range(100):
        open_job_store(connect(gateway.settings), gateway.settings).create(build_sync_request())

    assert call(gateway, 1).json["error_type"] == "model_not_ready"


def test_a_tenant_is_refused_for_its_own_work_and_leaves_room_to_others(
    clean_redis: str, storage_env: dict[str, str]
) -> None:
    alice, bob = {"Authorization": "Bearer a-token"}, {"Authorization": "Bearer b-token"}
    gateway = open_gateway(clean_redis, storage_env, tokens="alice:a-token,bob:b-token", max_sync_wait_seconds=5)
    report_worker(gateway)
    worker = open_worker(gateway)
    for _ in range(5 * int(RATE)):
        worker.jobs.create(build_sync_request(tenant="alice"))
    with ThreadPoolExecutor(2) as threads, run_periodically(worker.run_next, interval_seconds=1 / RATE):
        # This one comes before the rate is known, and the polls while it waits measure the rate.
        early = threads.submit(call, gateway, 1, bob)
        wait_until(lambda: len(worker.completed) > 1.5 * RATE, seconds=10)
        refused = call(gateway, 2, alice)
        accepted = threads.submit(call, gateway, 3, bob)

        assert (refused.status_code, refused.json["error_type"]) == (429, "wait_too_long")
        assert "Your own requests" in refused.json["error"]
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert [one.result(timeout=60).status_code for one in (early, accepted)] == [200, 200]
        # Those of the other tenant were not behind the ones of this tenant, so some of them still wait.
        wait_until(lambda: len(worker.completed) >= 5 * int(RATE) + 2, seconds=30)
        assert call(gateway, 4, alice).status_code == 200
