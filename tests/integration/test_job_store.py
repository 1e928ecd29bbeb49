"""The job store on a real Valkey: legal and illegal transitions of a job, in any order."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import redis_keys
from shared.errors import IdempotencyConflict, QueueFull, StoreUnavailable, UnknownJob
from shared.jobs.lists import JobLists
from shared.jobs.model import Failure, Idempotency, ImageFacts, JobState, Priority
from shared.jobs.outcomes import ClaimOutcome, CreateOutcome, RequeueDelayedOutcome, RequeueStalledOutcome
from shared.jobs.store import Claim, Created, DedupKey, JobStore, QueueLimits, open_job_store
from shared.jobs.survey import JobSurvey
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import MODEL, build_request, build_sync_request
from tests.support.polling import wait_until
from tests.support.survey import find_delayed, find_stalled
from tests.support.worker import claim_job

if TYPE_CHECKING:
    from deploy.local.servers import ValkeyServer

QUEUE = f"segment.{MODEL}.normal"


@pytest.fixture
def jobs(clean_redis: str) -> JobStore:
    return open_store(clean_redis, lease_seconds=60)


def open_store(redis_url: str, *, lease_seconds: float, retry_delay_seconds: float = 0) -> JobStore:
    client = connect(Settings(redis_url=redis_url))
    return JobStore(client, lease_seconds=lease_seconds, max_attempts=3, retry_delay_seconds=retry_delay_seconds)


def claim_next(jobs: JobStore) -> str:
    """Claim the next job of any priority; return its id."""
    claim = jobs.attempts.claim(MODEL, worker="w", may_isolate=True)
    assert isinstance(claim, Claim)
    return claim.request.id


def get_attempt(jobs: JobStore, job_id: str) -> str:
    """Return the name of a job's last attempt."""
    return jobs.get(job_id).attempt_name


def test_a_new_job_is_read_back_with_its_request(jobs: JobStore) -> None:
    request = build_request(deadline_at=time.time() + 100)

    jobs.create(request)

    job = jobs.get(request.id)
    assert job.request == request
    assert job.state is JobState.QUEUED
    assert jobs.queues.backlog(QUEUE) == 1


def test_a_job_is_claimed_once(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)

    first, second = jobs.attempts.claim(MODEL, worker="a"), jobs.attempts.claim(MODEL, worker="b")

    assert first == Claim(request, 1, get_attempt(jobs, request.id))
    assert second is ClaimOutcome.EMPTY
    assert jobs.get(request.id).worker == "a"
    assert jobs.queues.backlog(QUEUE) == 0


def test_a_job_past_its_deadline_is_claimed_to_be_expired(jobs: JobStore) -> None:
    request = build_request(deadline_at=time.time() - 1)
    jobs.create(request)

    claim = jobs.attempts.claim(MODEL, worker="a")

    assert claim == Claim(request, 1, get_attempt(jobs, request.id), is_late=True)


def test_a_job_without_a_record_is_passed_over(jobs: JobStore, redis_client: Any) -> None:
    lost, request = build_request(), build_request()
    jobs.create(lost)
    jobs.create(request)
    redis_client.delete(redis_keys.job(lost.id))

    assert claim_next(jobs) == request.id


def test_jobs_of_other_models_are_not_claimed(jobs: JobStore) -> None:
    jobs.create(build_request(model="acme/roads"))

    assert jobs.attempts.claim(MODEL, worker="a") is ClaimOutcome.EMPTY


def test_interactive_jobs_come_first_and_low_ones_last(jobs: JobStore) -> None:
    requests = [build_request(priority=priority) for priority in reversed(Priority)]
    for request in requests:
        jobs.create(request)

    assert [claim_next(jobs) for _ in requests] == [request.id for request in reversed(requests)]


def test_a_job_of_lower_priority_does_not_starve(jobs: JobStore) -> None:
    for priority in Priority:
        for _ in range(100):
            jobs.create(build_request(priority=priority))

    priorities = [jobs.get(claim_next(jobs)).request.priority for _ in range(100)]

    counts = Counter(priorities)
    assert counts[Priority.INTERACTIVE] > counts[Priority.NORMAL] > counts[Priority.LOW] >= 3
    assert counts[Priority.NORMAL] >= 18


def test_an_interactive_job_is_not_delayed_by_empty_queues(jobs: JobStore) -> None:
    for _ in range(30):
        jobs.create(build_request(priority=Priority.INTERACTIVE))
    for _ in range(30):
        claim_next(jobs)
    late = build_request(priority=Priority.LOW)
    urgent = build_request(priority=Priority.INTERACTIVE)
    jobs.create(late)
    jobs.create(urgent)

    assert claim_next(jobs) == urgent.id


def test_a_requeued_or_released_job_keeps_its_place(clean_redis: str) -> None:
    jobs = open_store(clean_redis, lease_seconds=1e-9)
    requests = [build_request() for _ in range(4)]
    for request in requests:
        jobs.create(request)
    stalled, released, postponed = (claim_next(jobs) for _ in range(3))

    jobs.attempts.postpone(postponed, get_attempt(jobs, postponed), jitter=0, is_counted=False)
    jobs.attempts.requeue_delayed(postponed, QUEUE, message="m")
    jobs.attempts.release(released, get_attempt(jobs, released), message="m")
    jobs.attempts.requeue_stalled(stalled, message="m")

    assert [claim_next(jobs) for _ in requests] == [request.id for request in requests]


def test_a_postponed_job_is_not_claimed_and_does_not_hold_up_another(clean_redis: str) -> None:
    jobs = open_store(clean_redis, lease_seconds=60, retry_delay_seconds=60)
    first, second = build_request(), build_request()
    for request in (first, second):
        jobs.create(request)

    jobs.attempts.postpone(claim_next(jobs), get_attempt(jobs, first.id), jitter=0, is_counted=False)

    assert claim_next(jobs) == second.id
    assert jobs.attempts.claim(MODEL, worker="a") is ClaimOutcome.EMPTY
    assert jobs.attempts.requeue_delayed(first.id, QUEUE, message="m") is RequeueDelayedOutcome.DELAYED
    assert jobs.queues.backlog(QUEUE) == 1


def test_a_postponed_job_can_be_canceled(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)
    jobs.attempts.postpone(claim_next(jobs), get_attempt(jobs, request.id), jitter=0, is_counted=False)

    jobs.finish(request, JobState.CANCELED)

    assert find_delayed(jobs, QUEUE) == []
    assert jobs.attempts.requeue_delayed(request.id, QUEUE, message="m") is RequeueDelayedOutcome.UNKNOWN


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
    claim_job(jobs, request.id)

    wait_until(lambda: find_stalled(jobs) == [request.id])

    assert jobs.attempts.requeue_stalled(request.id, message="m") == "queued"
    assert not jobs.attempts.renew(request.id, get_attempt(jobs, request.id))
    assert jobs.get(request.id).stalls == 1
    assert jobs.get(request.id).state is JobState.QUEUED


def test_a_job_whose_lease_is_renewed_does_not_stall(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)
    claim_job(jobs, request.id)

    assert jobs.attempts.renew(request.id, get_attempt(jobs, request.id))
    assert find_stalled(jobs) == []
    assert jobs.attempts.requeue_stalled(request.id, message="m") is RequeueStalledOutcome.LEASED


def test_the_facts_of_an_image_are_recorded_by_the_attempt_that_has_the_job(jobs: JobStore) -> None:
    request, facts = build_request(image=None), ImageFacts("png", 6, 4, 77, "00" * 32)
    jobs.create(request)
    claim_job(jobs, request.id)
    attempt_name = get_attempt(jobs, request.id)

    assert not jobs.attempts.record_image(request.id, "another", facts)
    assert jobs.get(request.id).request.image is None
    assert jobs.attempts.record_image(request.id, attempt_name, facts)
    assert jobs.attempts.record_image(request.id, attempt_name, facts)
    assert jobs.get(request.id).request == replace(request, image=facts)


def test_a_job_that_stalls_on_its_last_attempt_is_exhausted(clean_redis: str) -> None:
    jobs = open_store(clean_redis, lease_seconds=0.01)
    request = build_request()
    jobs.create(request)
    outcomes = []

    for _ in range(3):
        claim = claim_job(jobs, request.id)
        assert claim
        assert jobs.attempts.start_isolated(claim)
        wait_until(lambda: find_stalled(jobs))
        outcomes.append(jobs.attempts.requeue_stalled(request.id, message="m"))

    assert outcomes == ["queued", "queued", "exhausted"]
    assert find_stalled(jobs) == [request.id]


def test_an_attempt_from_before_a_loss_of_redis_has_no_lease_of_the_job(clean_redis: str) -> None:
    jobs = open_store(clean_redis, lease_seconds=30)
    request = build_request()
    jobs.create(request)
    before = jobs.attempts.claim(MODEL, worker="a")
    assert isinstance(before, Claim)
    with redis.Redis.from_url(clean_redis) as client:
        client.flushall()
    jobs.create(request)
    after = jobs.attempts.claim(MODEL, worker="b")
    assert isinstance(after, Claim)

    assert (before.attempt, after.attempt) == (1, 1)
    assert before.attempt_name != after.attempt_name
    assert not jobs.attempts.renew(request.id, before.attempt_name)
    jobs.attempts.release(request.id, before.attempt_name, message="m")
    jobs.attempts.abandon(request.id, before.attempt_name)
    assert jobs.get(request.id).state is JobState.RUNNING
    assert find_stalled(jobs) == []
    assert jobs.attempts.renew(request.id, after.attempt_name)


def test_a_released_job_has_not_stalled(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)

    for _ in range(5):
        claim_job(jobs, request.id)
        jobs.attempts.release(request.id, get_attempt(jobs, request.id), message="m")

    assert jobs.get(request.id).stalls == 0
    assert jobs.get(request.id).state is JobState.QUEUED


def test_a_canceled_job_loses_its_lease_and_cannot_be_claimed(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)
    claim_job(jobs, request.id)

    jobs.finish(request, JobState.CANCELED)

    assert not jobs.attempts.renew(request.id, get_attempt(jobs, request.id))
    assert jobs.attempts.claim(MODEL, worker="b") is ClaimOutcome.EMPTY
    assert jobs.queues.running_count() == 0


def test_a_full_queue_rejects_a_job_and_stores_nothing(jobs: JobStore) -> None:
    jobs.create(build_request(), limits=QueueLimits(jobs=1))
    rejected = build_request()

    with pytest.raises(QueueFull):
        jobs.create(rejected, limits=QueueLimits(jobs=1))

    assert not jobs.is_known(rejected.id)


def build_key(fingerprint: str = "same", *, seconds: float = 3600) -> Idempotency:
    return Idempotency("k", fingerprint, time.time() + seconds)


def test_a_repeated_idempotency_key_returns_the_first_job(jobs: JobStore) -> None:
    first, second = (build_request(idempotency=build_key()) for _ in range(2))

    created, repeated = jobs.create(first), jobs.create(second)

    assert created == Created(first.id, CreateOutcome.CREATED)
    assert repeated == Created(first.id, CreateOutcome.REPEATED)
    assert not jobs.is_known(second.id)


def test_an_idempotency_key_of_a_different_request_is_a_conflict(jobs: JobStore) -> None:
    jobs.create(build_request(idempotency=build_key("one")))

    with pytest.raises(IdempotencyConflict):
        jobs.create(build_request(idempotency=build_key("another")))


def test_a_discarded_job_leaves_no_data(jobs: JobStore, redis_client: Any) -> None:
    request = build_request(idempotency=build_key())
    jobs.create(request)

    jobs.discard(request)

    with pytest.raises(UnknownJob):
        jobs.get(request.id)
    assert JobLists(jobs._redis).list_newest("public", limit=10) == ([], None)
    assert jobs.create(build_request(idempotency=build_key())).outcome is CreateOutcome.CREATED


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

    first, cursor = JobLists(jobs._redis).list_newest("public", limit=3)
    second, end = JobLists(jobs._redis).list_newest("public", limit=3, before=cursor)

    assert [job.id for job in [*first, *second]] == ids[::-1]
    assert end is None


def test_jobs_without_a_record_are_pruned_from_the_lists(jobs: JobStore) -> None:
    expired, recent = build_request(), build_request()
    jobs.create(expired)
    jobs.create(recent)
    jobs._redis.delete(redis_keys.job(expired.id))

    JobSurvey(jobs._redis).prune_lists(is_thorough=False)

    listed, _ = JobLists(jobs._redis).list_newest("public", limit=9)
    assert [job.id for job in listed] == [recent.id]
    assert jobs._redis.zcard(redis_keys.tenant_jobs("public")) == 1


# A running job may be requeued: it stalled, or was released.  A queued job may succeed: its result was in the bucket
# but not in Redis, because the worker or Redis was lost between the two writes.
FINAL = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED}
LEGAL_STEPS = {
    JobState.QUEUED: FINAL | {JobState.RUNNING},
    JobState.RUNNING: FINAL | {JobState.QUEUED},
    **{state: set() for state in FINAL},
}
STEPS = st.lists(
    st.sampled_from(
        ["claim", "renew", "release", "postpone", "requeue", "stall", "succeed", "fail", "cancel", "expire"]
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_job_makes_only_legal_transitions(clean_redis: str, steps: list[str]) -> None:
    jobs = open_store(clean_redis, lease_seconds=1e-9)
    request = build_request()
    jobs.create(request)
    before = jobs.get(request.id)

    for step in steps:
        attempt = before.attempt_name
        {
            "claim": lambda: jobs.attempts.claim(MODEL, worker="w", may_isolate=True),
            "renew": lambda attempt=attempt: jobs.attempts.renew(request.id, attempt),
            "release": lambda attempt=attempt: jobs.attempts.release(request.id, attempt, message="m"),
            "postpone": lambda attempt=attempt: jobs.attempts.postpone(request.id, attempt, jitter=0, is_counted=True),
            "requeue": lambda: jobs.attempts.requeue_delayed(request.id, QUEUE, message="m"),
            "stall": lambda: jobs.attempts.requeue_stalled(request.id, message="m"),
            "succeed": lambda: jobs.finish(request, JobState.SUCCEEDED),
            "fail": lambda: jobs.finish(request, JobState.FAILED),
            "cancel": lambda: jobs.finish(request, JobState.CANCELED),
            "expire": lambda: jobs.finish(request, JobState.EXPIRED),
        }[step]()
        after = jobs.get(request.id)
        assert after.state is before.state or after.state in LEGAL_STEPS[before.state]
        assert (after.state is JobState.QUEUED) == (jobs.queues.backlog(QUEUE) == 1)
        assert (after.state is JobState.RUNNING) == (jobs.queues.running_count() == 1)
        before = after
    jobs.finish(request, JobState.CANCELED)
    assert jobs.queues.backlog(QUEUE) == jobs.queues.running_count() == 0
    with redis.Redis.from_url(clean_redis) as client:
        client.flushall()


def test_a_claim_without_an_answer_gets_the_same_job_when_it_is_repeated(
    clean_redis: str, valkey: ValkeyServer
) -> None:
    jobs = open_job_store(connect(Settings(redis_url=clean_redis, redis_timeout_seconds=0.3)), Settings())
    first, second = build_request(), build_request()
    for request in (first, second):
        jobs.create(request)
    jobs.get(first.id)

    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable):
            jobs.attempts.claim(first.model, worker="w")
    finally:
        os.kill(valkey.pid, signal.SIGCONT)

    wait_until(lambda: jobs.queues.running_count() == 1)
    claims = [jobs.attempts.claim(first.model, worker="w") for _ in range(2)]
    assert [claim.request.id for claim in claims] == [first.id, second.id]
    assert [claim.attempt for claim in claims] == [1, 1]
    assert jobs.attempts.claim(first.model, worker="w") is ClaimOutcome.EMPTY
