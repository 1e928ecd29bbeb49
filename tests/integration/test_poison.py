"""A job that ends its engine each time, among innocent ones: it fails alone.  tests/e2e/test_poison.py kills processes.

Here the engine is a scheduler whose batches fail as those of a process that ended, so that it can be lost often.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from shared.errors import AttemptsExhausted, EngineLost, MaskmillError
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest, JobState
from shared.jobs.store import JobStore
from shared.redis_client import connect
from shared.settings import Settings
from tests.integration.test_pipeline import submit
from tests.support.environment import get_fields
from tests.support.jobs import FakeSegmenter, png
from tests.support.steward import build_steward
from tests.support.worker import InProcessWorker, build_worker, start_shared_decoders
from worker.batching.local import LocalBatches
from worker.batching.policy import BatchLimits
from worker.batching.scheduler import BatchScheduler
from worker.pipeline.leases import LeaseKeeper
from worker.pipeline.slots import Slots
from worker.segmenter import Prepared, Segmentation

INNOCENTS = 20
THREADS = 6
POISON_WIDTH = 13
MAX_ROUNDS = 40
LEASE_SECONDS = 10.0


class PoisonedSegmenter(FakeSegmenter):
    """Ends its engine with an image of POISON_WIDTH: the images of the batch are lost with it."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        if all(prepared.width != POISON_WIDTH for prepared in batch):
            return super().segment(batch)
        self._end()
        return [EngineLost("The engine has ended.")] * len(batch)


@contextmanager
def start_engine(worker: InProcessWorker, name: str) -> Iterator[InProcessWorker]:
    """Yield a worker of one host; when its engine ends, it runs no further job, as a host that ends."""
    slots, ended = Slots(THREADS, 0), threading.Event()

    def end() -> None:
        slots.close()
        ended.set()

    segmenter = PoisonedSegmenter(end)
    # So long that the images of all threads share a batch.
    limits = BatchLimits(max_wait_seconds=0.1, max_interactive_wait_seconds=60.0)
    scheduler = BatchScheduler(segmenter, limits, batch_timeout_seconds=60.0)
    scheduler.start().result()
    # What waits is returned; another thread does it, as the channel's does.
    ending = threading.Thread(target=lambda: (ended.wait(), scheduler.stop(drain=False)))
    ending.start()
    # Of its own: a suspect waits for the other jobs of its host, not for those of another worker.
    leases = LeaseKeeper(worker.jobs, lease_seconds=LEASE_SECONDS)
    leases.start()
    yield replace(worker, leases=leases, slots=slots, batches=LocalBatches(segmenter, scheduler), worker_id=name)
    leases.stop()
    ended.set()
    ending.join()


@pytest.fixture
def config(clean_redis: str, storage_env: dict[str, str]) -> Settings:
    return Settings(redis_url=clean_redis, lease_seconds=LEASE_SECONDS, **get_fields(storage_env))


@pytest.mark.parametrize("workers", [1, 2])
def test_only_the_poison_fails(config: Settings, workers: int) -> None:
    start_shared_decoders()
    worker = build_worker(config, jobs=JobStore(connect(config), lease_seconds=LEASE_SECONDS, max_attempts=3))
    steward = build_steward(config, worker.jobs, worker.bucket)
    innocents = [submit(worker, formats=("labels",)) for _ in range(INNOCENTS // 2)]
    poison = submit(worker, png(POISON_WIDTH, 7), formats=("labels",))
    innocents += [submit(worker, formats=("labels",)) for _ in range(INNOCENTS - len(innocents))]

    for _ in range(MAX_ROUNDS):
        run_round(worker, workers, job_queue(poison))
        steward.reconcile()
        if all(get_state(worker, request).is_final for request in (poison, *innocents)):
            break

    assert {get_state(worker, request) for request in innocents} == {JobState.SUCCEEDED}
    failed = worker.jobs.get(poison.id)
    assert failed.state is JobState.FAILED
    assert failed.failure
    assert failed.failure.code == AttemptsExhausted.code


def run_round(worker: InProcessWorker, workers: int, queue: str) -> None:
    """Run jobs on so many workers, until none can be claimed or their engines have ended."""
    with ThreadPoolExecutor(workers) as executor:
        list(executor.map(lambda number: run_worker(worker, f"worker-{number}", queue), range(workers)))


def run_worker(worker: InProcessWorker, name: str, queue: str) -> None:
    with start_engine(worker, name) as one, ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda _: one.run_jobs(queue), range(THREADS)))


def get_state(worker: InProcessWorker, request: JobRequest) -> JobState:
    return worker.jobs.get(request.id).state
