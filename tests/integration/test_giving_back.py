"""A worker gives a job back because a store did not answer: whether it counts, and what ends it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from shared.broker.envelope import encode_message
from shared.errors import AttemptsExhausted, StorageUnavailable
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest, JobState
from shared.jobs.store import JobStore
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket
from shared.storage.keys import INBOX_PREFIX
from tests.support.environment import get_fields
from tests.support.jobs import build_request, store_input
from tests.support.polling import wait_until
from tests.support.survey import find_delayed
from tests.support.worker import InProcessWorker, WorkingStores, build_worker

MAX_RETRIES = 3


class RefusingBucket(Bucket):
    """Refuses to return inputs, and, if `is_full`, to store anything."""

    def __init__(self, bucket: Bucket, *, is_full: bool = False) -> None:
        super().__init__(bucket._store, bucket._slow)
        self.is_full = is_full

    def get(self, key: str, etag: str | None = None) -> bytes:
        if key.startswith(INBOX_PREFIX):
            raise StorageUnavailable("access denied")
        return super().get(key, etag)

    def put_first(self, key: str, content: bytes, **kwargs: Any) -> bool:
        if self.is_full:
            raise StorageUnavailable("no space")
        return super().put_first(key, content, **kwargs)


class RefusingStores(WorkingStores):
    def can_end_jobs(self) -> bool:
        return False


@pytest.fixture
def worker(clean_redis: str, storage_env: dict[str, str]) -> Iterator[InProcessWorker]:
    config = Settings(redis_url=clean_redis, **get_fields(storage_env))
    jobs = JobStore(
        connect(config), lease_seconds=10, max_attempts=3, max_retries=MAX_RETRIES, retry_delay_seconds=0.01
    )
    worker = build_worker(config, jobs=jobs)
    worker.leases.start()
    yield worker
    worker.leases.stop()


def submit(worker: InProcessWorker) -> JobRequest:
    request = build_request()
    store_input(worker.bucket, request)
    worker.jobs.create(request)
    return request


def run_again(worker: InProcessWorker, request: JobRequest) -> None:
    """Run a job once its delay is over."""
    queue = job_queue(request)
    wait_until(lambda: request.id in find_delayed(worker.jobs, queue))
    worker.jobs.attempts.requeue_delayed(request.id, queue, message=encode_message(queue))
    worker.run(request.id)


def test_a_job_whose_input_is_refused_ends_with_the_reason(worker: InProcessWorker) -> None:
    request = submit(worker)
    worker = replace(worker, bucket=RefusingBucket(worker.bucket))

    worker.run(request.id)
    for _ in range(MAX_RETRIES):
        assert worker.jobs.get(request.id).state is JobState.QUEUED
        run_again(worker, request)

    job = worker.jobs.get(request.id)
    assert (job.state, job.attempt, job.stalls) == (JobState.FAILED, MAX_RETRIES + 1, 0)
    assert job.failure
    assert job.failure.code == AttemptsExhausted.code
    assert "access denied" in job.failure.message


def test_a_release_while_a_store_refuses_every_job_does_not_count(worker: InProcessWorker) -> None:
    request = submit(worker)
    worker = replace(worker, bucket=RefusingBucket(worker.bucket), stores=RefusingStores())

    worker.run(request.id)
    for _ in range(MAX_RETRIES + 1):
        run_again(worker, request)

    assert worker.jobs.get(request.id).state is JobState.QUEUED


def test_the_end_of_an_exhausted_job_that_cannot_be_stored_is_tried_again(worker: InProcessWorker) -> None:
    request = submit(worker)
    refusing = RefusingBucket(worker.bucket)
    worker = replace(worker, bucket=refusing)
    worker.run(request.id)
    for _ in range(MAX_RETRIES - 1):
        run_again(worker, request)

    refusing.is_full = True
    run_again(worker, request)
    assert worker.jobs.get(request.id).state is JobState.QUEUED

    refusing.is_full = False
    run_again(worker, request)
    assert worker.jobs.get(request.id).state is JobState.FAILED
