"""The job store on a real Valkey: legal and illegal transitions of a job, in any order."""

import time
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import IdempotencyConflict, QueueFull, UnknownJob
from shared.jobs.model import Failure, JobState
from shared.jobs.outcomes import CreateOutcome, RequeueStalledOutcome
from shared.jobs.store import Claim, Created, DedupKey, Idempotency, JobStore
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import MODEL, build_request, build_sync_request
from tests.support.polling import wait_until

QUEUE = f"segment.{MODEL}.normal"


@pytest.fixture
def jobs(clean_redis: str) -> JobStore:
    return open_store(clean_redis, lease_seconds=60)


def open_store(redis_url: str, *, lease_seconds: float) -> JobStore:
    client = connect(Settings(redis_url=redis_url))
    return JobStore(client, lease_seconds=lease_seconds, max_attempts=3)


def claim(jobs: JobStore, job_id: str) -> Claim:
    claim = jobs.claim(job_id, worker="w")
    assert isinstance(claim, Claim)
    return claim


def test_a_new_job_is_read_back_with_its_request(jobs: JobStore) -> None:
    request = build_request(deadline_at=time.time() + 100)

    jobs.create(request)

    job = jobs.get(request.id)
    assert job.request == request
    assert job.state is JobState.QUEUED
    assert jobs.backlog(QUEUE) == 1


def test_a_job_is_claimed_once(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)

    first, second = jobs.claim(request.id, worker="a"), jobs.claim(request.id, worker="b")

    assert first == Claim(request, 1)
    assert second == "running"
    assert jobs.get(request.id).worker == "a"
    assert jobs.backlog(QUEUE) == 0


def test_a_job_past_its_deadline_cannot_be_claimed(jobs: JobStore) -> None:
    request = build_request(deadline_at=time.time() - 1)
    jobs.create(request)

    assert jobs.claim(request.id, worker="a") == "deadline_exceeded"


def test_an_unknown_job_cannot_be_claimed(jobs: JobStore) -> None:
    assert jobs.claim("0" * 32, worker="a") == "unknown"


def test_a_job_is_finished_once(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)

    first = jobs.finish(
        request, JobState.FAILED, failure=Failure("engine_failed", "It broke."), timings_ms={"decode": 1.5}
    )
    second = jobs.finish(request, JobState.SUCCEEDED)

    assert (first, second) == (True, False)
    assert jobs.get(request.id).state is JobState.FAILED
    assert jobs.get(request.id).failure == Failure("engine_failed", "It broke.")
    assert jobs.get(request.id).timings_ms == {"decode": 1.5}


def test_a_job_whose_lease_has_expired_is_requeued(clean_redis: str) -> None:
    jobs = open_store(clean_redis, lease_seconds=0.2)
    request = build_request()
    jobs.create(request)
    claim(jobs, request.id)

    wait_until(lambda: jobs.find_stalled() == [request.id])

    assert jobs.requeue_stalled(request.id) == "queued"
    assert not jobs.renew(request.id, 1)
    assert jobs.get(request.id).stalls == 1
    assert jobs.get(request.id).state is JobState.QUEUED


def test_a_job_whose_lease_is_renewed_does_not_stall(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)
    claim(jobs, request.id)

    assert jobs.renew(request.id, 1)
    assert jobs.find_stalled() == []
    assert jobs.requeue_stalled(request.id) is RequeueStalledOutcome.LEASED


def test_a_job_that_stalls_on_its_last_attempt_is_exhausted(clean_redis: str) -> None:
    jobs = open_store(clean_redis, lease_seconds=0.01)
    request = build_request()
    jobs.create(request)
    outcomes = []

    for _ in range(3):
        claim(jobs, request.id)
        wait_until(jobs.find_stalled)
        outcomes.append(jobs.requeue_stalled(request.id))

    assert outcomes == ["queued", "queued", "exhausted"]
    assert jobs.find_stalled() == [request.id]


def test_a_released_job_has_not_stalled(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)

    for attempt in range(1, 6):
        claim(jobs, request.id)
        jobs.release(request.id, attempt)

    assert jobs.get(request.id).stalls == 0
    assert jobs.get(request.id).state is JobState.QUEUED


def test_a_canceled_job_loses_its_lease_and_cannot_be_claimed(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)
    claim(jobs, request.id)

    jobs.finish(request, JobState.CANCELED)

    assert not jobs.renew(request.id, 1)
    assert jobs.claim(request.id, worker="b") == "canceled"
    assert jobs.running_count() == 0


def test_a_full_queue_rejects_a_job_and_stores_nothing(jobs: JobStore) -> None:
    jobs.create(build_request(), max_queued=1)
    rejected = build_request()

    with pytest.raises(QueueFull):
        jobs.create(rejected, max_queued=1)

    assert not jobs.is_known(rejected.id)


def test_a_repeated_idempotency_key_returns_the_first_job(jobs: JobStore) -> None:
    first, second = build_request(), build_request()

    created = jobs.create(first, idempotency=Idempotency("k", "same"))
    repeated = jobs.create(second, idempotency=Idempotency("k", "same"))

    assert created == Created(first.id, CreateOutcome.CREATED)
    assert repeated == Created(first.id, CreateOutcome.REPEATED)
    assert not jobs.is_known(second.id)


def test_an_idempotency_key_of_a_different_request_is_a_conflict(jobs: JobStore) -> None:
    jobs.create(build_request(), idempotency=Idempotency("k", "one"))

    with pytest.raises(IdempotencyConflict):
        jobs.create(build_request(), idempotency=Idempotency("k", "another"))


def test_an_idempotency_key_belongs_to_its_tenant(jobs: JobStore) -> None:
    jobs.create(build_request(tenant="a"), idempotency=Idempotency("k", "one"))

    other = jobs.create(build_request(tenant="b"), idempotency=Idempotency("k", "another"))

    assert other.outcome is CreateOutcome.CREATED


def test_a_discarded_job_leaves_no_data(jobs: JobStore, redis_client: Any) -> None:
    request, key = build_request(), Idempotency("k", "one")
    jobs.create(request, idempotency=key)

    jobs.discard(request, idempotency=key)

    with pytest.raises(UnknownJob):
        jobs.get(request.id)
    assert jobs.list_newest("public", limit=10) == ([], None)
    assert jobs.create(build_request(), idempotency=key).outcome is CreateOutcome.CREATED


def test_an_identical_request_is_coalesced_while_the_first_runs_and_cached_afterwards(jobs: JobStore) -> None:
    first, dedup = build_request(), DedupKey("same", 60)
    jobs.create(first, dedup=dedup)

    coalesced = jobs.create(build_request(), dedup=dedup)
    jobs.finish(first, JobState.SUCCEEDED)
    cached = jobs.create(build_request(), dedup=dedup)

    assert coalesced == Created(first.id, CreateOutcome.COALESCED)
    assert cached == Created(first.id, CreateOutcome.CACHED)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELED, JobState.EXPIRED])
def test_a_job_that_did_not_succeed_is_not_reused(jobs: JobStore, state: JobState) -> None:
    first, second = build_request(), build_request()
    jobs.create(first, dedup=DedupKey("same", 60))
    jobs.finish(first, state)

    assert jobs.create(second, dedup=DedupKey("same", 60)) == Created(second.id, CreateOutcome.CREATED)


def test_a_discarded_job_is_not_reused(jobs: JobStore) -> None:
    first, second = build_request(), build_request()
    jobs.create(first, dedup=DedupKey("same", 60))
    jobs.discard(first)

    assert jobs.create(second, dedup=DedupKey("same", 60)) == Created(second.id, CreateOutcome.CREATED)


def test_a_recomputed_job_is_reused_by_later_requests(jobs: JobStore) -> None:
    first, second = build_request(), build_request()
    jobs.create(first, dedup=DedupKey("same", 60))

    recomputed = jobs.create(second, dedup=DedupKey("same", 60, reuse=False))
    coalesced = jobs.create(build_request(), dedup=DedupKey("same", 60))

    assert recomputed == Created(second.id, CreateOutcome.CREATED)
    assert coalesced == Created(second.id, CreateOutcome.COALESCED)


def test_remove_waiter_returns_the_number_that_remain(jobs: JobStore) -> None:
    first = build_request()
    jobs.create(first, dedup=DedupKey("same", 60))
    jobs.create(build_request(), dedup=DedupKey("same", 60))

    assert [jobs.remove_waiter(first.id), jobs.remove_waiter(first.id)] == [1, 0]


def test_jobs_are_listed_newest_first_page_by_page(jobs: JobStore) -> None:
    ids = []
    for number in range(5):
        request = build_request(id=f"{number:032x}")
        jobs.create(request)
        ids.append(request.id)
    jobs.create(build_request(tenant="other"))
    jobs.create(build_sync_request())

    first, cursor = jobs.list_newest("public", limit=3)
    second, end = jobs.list_newest("public", limit=3, before=cursor)

    assert [job.id for job in [*first, *second]] == ids[::-1]
    assert end is None


def test_old_jobs_are_pruned_from_the_lists(jobs: JobStore) -> None:
    old, recent = build_request(id=f"{1:032x}"), build_request(id=f"{5:032x}")
    jobs.create(old)
    jobs.create(recent)

    jobs.prune_lists(f"{3:032x}")

    listed, _ = jobs.list_newest("public", limit=9)
    assert [job.id for job in listed] == [recent.id]


def test_a_queued_job_without_a_message_is_orphaned(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)

    wait_until(lambda: jobs.find_orphaned(QUEUE, grace_seconds=0.05, waiting_messages=0) == [request.id])

    assert jobs.find_orphaned(QUEUE, grace_seconds=0.05, waiting_messages=0) == []


def test_a_job_whose_message_is_queued_is_not_orphaned(jobs: JobStore) -> None:
    for _ in range(3):
        jobs.create(build_request())

    assert jobs.find_orphaned(QUEUE, grace_seconds=0, waiting_messages=3) == []


def test_a_job_queued_before_a_claimed_one_is_orphaned(jobs: JobStore) -> None:
    lost, claimed = build_request(), build_request()
    jobs.create(lost)
    jobs.create(build_request())
    jobs.create(claimed)

    claim(jobs, claimed.id)

    assert lost.id in jobs.find_orphaned(QUEUE, grace_seconds=0, waiting_messages=1)


# A running job may be requeued: it stalled, or was released.  A queued job may succeed: its result was in the bucket
# but not in Redis, because the worker or Redis was lost between the two writes.
FINAL = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED}
LEGAL_STEPS = {
    JobState.QUEUED: FINAL | {JobState.RUNNING},
    JobState.RUNNING: FINAL | {JobState.QUEUED},
    **{state: set() for state in FINAL},
}
STEPS = st.lists(
    st.sampled_from(["claim", "renew", "release", "stall", "succeed", "fail", "cancel", "expire"]), max_size=12
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_job_makes_only_legal_transitions(clean_redis: str, steps: list[str]) -> None:
    jobs = open_store(clean_redis, lease_seconds=1e-9)
    request = build_request()
    jobs.create(request)
    before = jobs.get(request.id)

    for step in steps:
        attempt = before.attempt
        {
            "claim": lambda: jobs.claim(request.id, worker="w"),
            "renew": lambda attempt=attempt: jobs.renew(request.id, attempt),
            "release": lambda attempt=attempt: jobs.release(request.id, attempt),
            "stall": lambda: jobs.requeue_stalled(request.id),
            "succeed": lambda: jobs.finish(request, JobState.SUCCEEDED),
            "fail": lambda: jobs.finish(request, JobState.FAILED),
            "cancel": lambda: jobs.finish(request, JobState.CANCELED),
            "expire": lambda: jobs.finish(request, JobState.EXPIRED),
        }[step]()
        after = jobs.get(request.id)
        assert after.state is before.state or after.state in LEGAL_STEPS[before.state]
        assert (after.state is JobState.QUEUED) == (jobs.backlog(QUEUE) == 1)
        assert (after.state is JobState.RUNNING) == (jobs.running_count() == 1)
        before = after
    jobs.finish(request, JobState.CANCELED)
    assert jobs.backlog(QUEUE) == jobs.running_count() == 0
    with redis.Redis.from_url(clean_redis) as client:
        client.flushall()
