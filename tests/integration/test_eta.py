"""The estimate of a job's end on a real Valkey, against workers whose jobs take a known time by their pixels."""

from __future__ import annotations

import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.jobs.eta import EtaEstimator
from api.model_registry import ModelStatus
from shared.jobs.model import ImageFacts, JobRequest, JobState
from shared.jobs.store import Claim, JobStore
from shared.redis_client import connect
from shared.settings import Settings
from shared.worker_registry import WorkerState, WorkerStatus
from tests.support.jobs import MODEL, build_request

JOBS = 260
WORKERS = 2
FIXED_MS, MS_PER_MEGAPIXEL = 10.0, 12.0


class Fleet:
    """The workers of the test, as the registry lists them."""

    def list_all(self) -> list[ModelStatus]:
        ready = (WorkerStatus(str(number), MODEL, WorkerState.READY, device="cpu") for number in range(WORKERS))
        return [ModelStatus(MODEL, tuple(ready))]


@pytest.fixture
def jobs(clean_redis: str) -> JobStore:
    return JobStore(connect(Settings(redis_url=clean_redis)), lease_seconds=60, max_attempts=3)


def build_image(megapixels: float) -> JobRequest:
    return build_request(image=ImageFacts("jpeg", round(1000 * megapixels), 1000, 0, "00" * 32))


def work(jobs: JobStore, name: str, ends: dict[str, float]) -> None:
    """Run jobs until none is queued."""
    while isinstance(claim := jobs.attempts.claim(MODEL, worker=name), Claim):
        image = claim.request.image
        ms = FIXED_MS + MS_PER_MEGAPIXEL * image.width * image.height / 1e6
        time.sleep(ms / 1000)
        jobs.finish(claim.request, JobState.SUCCEEDED, timings_ms={"device": ms})
        ends[claim.request.id] = jobs.clock.now()


def test_most_jobs_end_within_their_range(jobs: JobStore, capsys: pytest.CaptureFixture[str]) -> None:
    eta = EtaEstimator(jobs.queues, Fleet(), now=jobs.clock.now, clock=time.monotonic)
    chance = random.Random(1)
    requests = [build_image(chance.choice((0.3, 1, 4))) for _ in range(JOBS)]
    for request in requests:
        jobs.create(request)
    ends: dict[str, float] = {}
    asked: list[tuple[str, float, float, float]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.01):
            one = jobs.get(chance.choice(requests).id)
            found = eta.locate(one)
            if found is not None and found[1] is not None:
                asked.append((one.id, jobs.clock.now(), found[1].earliest, found[1].latest))

    with ThreadPoolExecutor(WORKERS + 1) as threads:
        asking = threads.submit(ask)
        list(threads.map(lambda number: work(jobs, str(number), ends), range(WORKERS)))
        done.set()
        asking.result()

    held = [earliest <= ends[job_id] <= latest for job_id, _, earliest, latest in asked]
    # A batch and what it stores take a moment in any case.
    errors = [
        abs((earliest + latest) / 2 - ends[job_id]) / max(1.0, ends[job_id] - at)
        for job_id, at, earliest, latest in asked
    ]
    with capsys.disabled():
        print(f"{len(asked)} estimates, {sum(held) / len(held):.0%} held, median error {statistics.median(errors):.0%}")
    assert len(asked) >= 10
    assert sum(held) / len(held) >= 0.8
    assert statistics.median(errors) <= 0.4
