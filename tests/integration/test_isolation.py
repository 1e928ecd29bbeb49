"""A suspect runs alone: with nothing else in the hands of its host, and in its batch."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis

from shared.errors import Canceled, EngineLost, ModelNotReady
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest, JobState
from shared.jobs.store import InputPayload
from shared.settings import Settings
from tests.support.environment import get_fields
from tests.support.jobs import FakeSegmenter, ImmediateScheduler, build_request, build_sync_request, png, store_input
from tests.support.polling import wait_until
from tests.support.survey import find_stalled
from tests.support.worker import InProcessWorker, build_worker, claim_job, start_shared_decoders
from worker.batching.scheduler import Ticket
from worker.pipeline.isolation import POLL_SECONDS, Isolation
from worker.pipeline.slots import Slots
from worker.segmenter import ModelImage


@dataclass
class Scheduler(ImmediateScheduler):
    """Keeps images on the device until the gate is set; remembers how many were there with each, and which is alone."""

    gate: threading.Event = field(default_factory=threading.Event)
    together: list[tuple[bool, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(FakeSegmenter())
        self.present = 0
        self.lock = threading.Lock()

    def submit(self, image: ModelImage, *, is_alone: bool = False, **kwargs: Any) -> Ticket:
        with self.lock:
            self.present += 1
            self.together.append((is_alone, self.present))
        assert self.gate.wait(20)
        with self.lock:
            self.present -= 1
        return super().submit(image, **kwargs)


@pytest.fixture
def config(clean_redis: str, storage_env: dict[str, str]) -> Settings:
    return Settings(redis_url=clean_redis, lease_seconds=30, **get_fields(storage_env))


@pytest.fixture
def worker(config: Settings) -> Iterator[InProcessWorker]:
    start_shared_decoders()  # before the threads that use them
    worker = replace(build_worker(config), slots=Slots(4, 0), batches=Scheduler())
    worker.leases.start()
    yield worker
    worker.leases.stop()


def get_scheduler(worker: InProcessWorker) -> Scheduler:
    assert isinstance(worker.batches, Scheduler)
    return worker.batches


def submit(worker: InProcessWorker, **changes: object) -> JobRequest:
    request = build_request(formats=("labels",), **changes)
    store_input(worker.bucket, request)
    worker.jobs.create(request)
    return request


def submit_suspect(worker: InProcessWorker) -> JobRequest:
    """Submit a job that stalls on another worker before anything else is claimed."""
    request = submit(worker)
    stall(worker, request)
    return request


def stall(worker: InProcessWorker, request: JobRequest) -> None:
    claim = worker.claim(request.id)
    assert claim
    worker.jobs.attempts.abandon(request.id, claim.attempt_name)
    worker.jobs.attempts.requeue_stalled(request.id, message="{}")
    assert worker.jobs.get(request.id).stalls == 1


def start_threads(worker: InProcessWorker, request: JobRequest, count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=worker.run_jobs, args=[job_queue(request)]) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_a_suspect_waits_until_its_host_has_nothing_else_and_runs_alone(worker: InProcessWorker) -> None:
    scheduler = get_scheduler(worker)
    first = [submit(worker) for _ in range(2)]
    threads = start_threads(worker, first[0], 2)
    wait_until(lambda: scheduler.present == 2)
    suspect = submit_suspect(worker)
    later = submit(worker)
    threads += start_threads(worker, suspect, 1)
    wait_until(lambda: worker.jobs.get(suspect.id).state is JobState.RUNNING)

    # It waits for the two that run, and nothing is claimed meanwhile.
    wait_until(lambda: worker.slots.priorities == ())
    threads += start_threads(worker, later, 1)
    assert worker.jobs.get(later.id).state is JobState.QUEUED
    assert scheduler.present == 2

    scheduler.gate.set()
    wait_until(lambda: worker.jobs.get(suspect.id).state is JobState.SUCCEEDED, seconds=20)
    wait_until(lambda: worker.jobs.get(later.id).state is JobState.SUCCEEDED, seconds=20)
    join(threads)
    assert [count for is_alone, count in scheduler.together if is_alone] == [1]
    assert {worker.jobs.get(request.id).state for request in first} == {JobState.SUCCEEDED}


def test_slots_are_free_again_after_a_suspect(worker: InProcessWorker) -> None:
    suspect = submit_suspect(worker)
    wake_ups: list[str] = []
    worker.slots.on_free(lambda: wake_ups.append("free"))
    get_scheduler(worker).gate.set()

    worker.run_jobs(job_queue(suspect))

    assert worker.jobs.get(suspect.id).state is JobState.SUCCEEDED
    assert worker.slots.priorities
    assert wake_ups


def test_a_suspect_waits_for_the_files_that_follow_a_reply(worker: InProcessWorker) -> None:
    # The slot of that job is free already.
    replied, suspect = submit(worker), submit_suspect(worker)
    first = claim_job(worker.jobs, replied.id)
    assert first
    get_scheduler(worker).gate.set()

    with worker.leases.hold(first):
        threads = start_threads(worker, suspect, 1)
        wait_until(lambda: worker.jobs.get(suspect.id).state is JobState.RUNNING)
        wait_until(lambda: worker.slots.priorities == ())
        threads[0].join(5 * POLL_SECONDS)
        assert get_scheduler(worker).together == []

    join(threads)
    assert worker.jobs.get(suspect.id).state is JobState.SUCCEEDED


def test_a_suspect_whose_host_drains_is_given_back_uncounted(worker: InProcessWorker) -> None:
    scheduler = get_scheduler(worker)
    running = submit(worker)
    threads = start_threads(worker, running, 1)
    wait_until(lambda: scheduler.present == 1)
    suspect = submit_suspect(worker)
    threads += start_threads(worker, suspect, 1)
    wait_until(lambda: worker.jobs.get(suspect.id).state is JobState.RUNNING)

    worker.slots.close()

    wait_until(lambda: worker.jobs.get(suspect.id).state is JobState.QUEUED)
    assert worker.jobs.get(suspect.id).stalls == 1
    scheduler.gate.set()
    join(threads)


def test_the_next_suspect_is_looked_for_after_a_synchronous_one(
    worker: InProcessWorker, redis_client: redis.Redis
) -> None:
    # Its thread ends with the reply, and a message that came while it ran alone was used up.
    request = build_sync_request()
    worker.jobs.create(request, payload=InputPayload(png(), seconds=60))
    stall(worker, request)
    get_scheduler(worker).gate.set()
    redis_client.delete(job_queue(request))

    worker.run(request.id)

    assert worker.jobs.get(request.id).state is JobState.SUCCEEDED
    assert redis_client.llen(job_queue(request)) == 1


def test_a_host_isolates_one_suspect_at_a_time(worker: InProcessWorker) -> None:
    # Two claims are possible only after Redis lost its data: otherwise a worker is given one suspect at a time.
    isolation = Isolation(worker.jobs, worker.slots, worker.leases)
    first, second = (claim_job(worker.jobs, submit_suspect(worker).id, worker=name) for name in "ab")
    assert first
    assert second

    with (
        worker.leases.hold(first) as lease,
        isolation.isolate(lease),
        worker.leases.hold(second) as other,
        pytest.raises(ModelNotReady),
        isolation.isolate(other),
    ):
        pytest.fail("both would be suspected")

    assert worker.slots.priorities
    with worker.leases.hold(second) as lease, isolation.isolate(lease):
        assert worker.slots.priorities == ()


def test_a_suspect_whose_lease_is_lost_does_not_start(worker: InProcessWorker) -> None:
    isolation = Isolation(worker.jobs, worker.slots, worker.leases)
    request = submit_suspect(worker)
    claim = worker.claim(request.id)
    assert claim
    worker.jobs.attempts.release(request.id, claim.attempt_name, message="{}")

    with pytest.raises(Canceled), worker.leases.hold(claim) as lease, isolation.isolate(lease):
        pytest.fail("another worker may run it")

    assert worker.slots.priorities


@pytest.mark.parametrize("kind", [EngineLost, ModelNotReady])
def test_only_what_was_on_the_device_is_suspected(worker: InProcessWorker, kind: type[ModelNotReady]) -> None:
    class LostEngine(ImmediateScheduler):
        def submit(self, image: ModelImage, **_: Any) -> Ticket:
            ticket = Ticket()
            ticket.set_exception(kind("The engine has ended."))
            return ticket

    request = submit(worker)

    replace(worker, batches=LostEngine(FakeSegmenter())).run(request.id)

    is_suspected = kind is EngineLost
    assert (find_stalled(worker.jobs) == [request.id]) is is_suspected
    job = worker.jobs.get(request.id)
    assert (job.state is JobState.QUEUED, job.stalls) == (not is_suspected, 0)
