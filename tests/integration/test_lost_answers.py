"""Redis does not answer a claim, or ends a lease: no message is lost for it, and no job is suspected or delayed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from shared.broker.queues import JobQueue
from shared.errors import EngineLost, StoreUnavailable
from shared.jobs.attempts import JobAttempts
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest, JobState
from shared.jobs.store import JobStore
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.environment import get_fields
from tests.support.jobs import FakeSegmenter, ImmediateScheduler, build_request, store_input
from tests.support.survey import find_stalled
from tests.support.worker import InProcessWorker, WorkingStores, build_worker
from worker.batching.scheduler import Ticket
from worker.pipeline.slots import Slots
from worker.segmenter import ModelImage


@pytest.fixture
def config(clean_redis: str, storage_env: Mapping[str, str]) -> Settings:
    return Settings(redis_url=clean_redis, lease_seconds=30, **get_fields(storage_env))


def submit(worker: InProcessWorker) -> JobRequest:
    request = build_request(formats=("labels",))
    store_input(worker.bucket, request)
    worker.jobs.create(request)
    return request


class SilentStore(JobStore):
    """Does not answer its first claim; `is_done`: Redis has run it all the same."""

    def __init__(self, config: Settings, *, is_done: bool) -> None:
        super().__init__(connect(config), lease_seconds=30, max_attempts=3)
        answer, silent = self.attempts._claim, [True]

        def claim(*args: Any, **kwargs: Any) -> Any:
            is_silent = silent and silent.pop()
            if is_done or not is_silent:
                answered = answer(*args, **kwargs)
            if is_silent:
                raise StoreUnavailable("no answer")
            return answered

        self.attempts._claim = claim  # type: ignore[assignment]


@pytest.mark.parametrize("is_done", [False, True], ids=["request lost", "answer lost"])
def test_a_claim_that_is_not_answered_is_repeated(config: Settings, is_done: bool) -> None:
    stores = WorkingStores()
    worker = replace(build_worker(config), jobs=SilentStore(config, is_done=is_done), stores=stores, keep_seconds=30.0)
    request = submit(worker)

    worker.run_jobs(job_queue(request))

    job = worker.jobs.get(request.id)
    assert (job.state, job.attempt, job.stalls) == (JobState.SUCCEEDED, 1, 0)
    # Until Redis answers, nothing else is claimed.
    assert stores.is_reported


def test_a_claim_is_not_repeated_by_a_worker_that_drains(config: Settings) -> None:
    worker = replace(build_worker(config), jobs=SilentStore(config, is_done=False), keep_seconds=30.0)
    request = submit(worker)

    class ClosingStores(WorkingStores):
        def report_error(self) -> None:
            worker.slots.close()

    with pytest.raises(StoreUnavailable):
        replace(worker, stores=ClosingStores()).run_jobs(job_queue(request))

    assert worker.jobs.get(request.id).state is JobState.QUEUED


def test_a_message_that_cannot_be_given_back_is_not_lost(config: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = replace(build_worker(config), slots=Slots(0, 0), keep_seconds=30.0)
    publish, failures = JobQueue.publish, ["once"]

    def fail_once(queue: JobQueue, name: str, count: int = 1) -> None:
        if failures:
            raise StoreUnavailable(failures.pop())
        publish(queue, name, count)

    monkeypatch.setattr(JobQueue, "publish", fail_once)
    request = submit(worker)

    worker.run_jobs(job_queue(request))

    assert JobQueue(connect(config)).missing_count(job_queue(request)) == 0


def test_a_job_that_lost_its_engine_is_not_renewed_any_more(config: Settings) -> None:
    worker = build_worker(config)

    class RenewedAttempts(JobAttempts):
        def abandon(self, job_id: str, attempt_name: str) -> None:
            super().abandon(job_id, attempt_name)
            worker.leases._renew_all()

    class LostEngine(ImmediateScheduler):
        def submit(self, image: ModelImage, **_: Any) -> Ticket:
            ticket = Ticket()
            ticket.set_exception(EngineLost("The engine has ended."))
            return ticket

    client = connect(config)
    jobs = JobStore(client, lease_seconds=30, max_attempts=3)
    jobs.attempts = RenewedAttempts(client, jobs.clock, lease_seconds=30, max_attempts=3)
    request = submit(worker)

    replace(worker, jobs=jobs, batches=LostEngine(FakeSegmenter())).run(request.id)

    # Otherwise it would wait until its lease expires.
    assert find_stalled(jobs) == [request.id]
