"""Suspects: jobs that have stalled are claimed to be run alone, and only a stall of such a run can exhaust them."""

from __future__ import annotations

import pytest
import redis

from shared import redis_keys
from shared.broker.queues import JobQueue
from shared.errors import QueueFull
from shared.jobs.model import JobRequest, JobState, Priority
from shared.jobs.outcomes import ClaimOutcome, RequeueStalledOutcome
from shared.jobs.store import Claim, JobStore, QueueLimits, TakenMessage
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import MODEL, build_request

QUEUE = f"segment.{MODEL}.normal"


@pytest.fixture
def jobs(clean_redis: str) -> JobStore:
    return open_store(clean_redis)


def open_store(redis_url: str, *, max_attempts: int = 3) -> JobStore:
    """Return a job store whose leases expire at once."""
    client = connect(Settings(redis_url=redis_url))
    return JobStore(client, lease_seconds=1e-9, max_attempts=max_attempts, retry_delay_seconds=0)


def create(jobs: JobStore, **changes: object) -> JobRequest:
    request = build_request(**changes)
    jobs.create(request, message="m")
    return request


def claim(jobs: JobStore, worker: str = "w") -> Claim:
    claimed = jobs.attempts.claim(MODEL, worker=worker, may_isolate=True)
    assert isinstance(claimed, Claim)
    return claimed


def stall(jobs: JobStore, job: JobRequest) -> RequeueStalledOutcome:
    return jobs.attempts.requeue_stalled(job.id, message="m")


def create_suspects(jobs: JobStore, count: int) -> list[JobRequest]:
    """Create jobs that have stalled once, together."""
    requests = [create(jobs) for _ in range(count)]
    for request in requests:
        assert claim(jobs).request == request
    for request in requests:
        assert stall(jobs, request) is RequeueStalledOutcome.QUEUED
    return requests


def test_a_suspect_is_claimed_only_to_be_run_alone(jobs: JobStore) -> None:
    (suspect,) = create_suspects(jobs, 1)

    assert jobs.attempts.claim(MODEL, worker="w") is ClaimOutcome.EMPTY
    claimed = claim(jobs)
    assert (claimed.request, claimed.is_isolated) == (suspect, True)


def test_a_worker_runs_one_suspect_at_a_time_and_another_worker_the_next(jobs: JobStore) -> None:
    first, second, third = create_suspects(jobs, 3)

    assert claim(jobs, "a").request == first
    assert jobs.attempts.claim(MODEL, worker="a", may_isolate=True) is ClaimOutcome.EMPTY
    assert claim(jobs, "b").request == second
    jobs.finish(first, JobState.SUCCEEDED)
    assert claim(jobs, "a").request == third


@pytest.mark.parametrize("how", ["finish", "release", "postpone", "stall", "purge"])
def test_a_worker_may_run_another_suspect_once_its_own_is_not_running(
    jobs: JobStore, redis_client: redis.Redis, how: str
) -> None:
    first, second = create_suspects(jobs, 2)
    held = claim(jobs)
    {
        "finish": lambda: jobs.finish(first, JobState.FAILED),
        "release": lambda: jobs.attempts.release(first.id, held.attempt_name, message="m"),
        "postpone": lambda: jobs.attempts.postpone(first.id, held.attempt_name, jitter=0, is_counted=True),
        "stall": lambda: stall(jobs, first),
        "purge": lambda: jobs.purge(first.id),
    }[how]()

    assert not redis_client.exists(redis_keys.ISOLATED)
    assert claim(jobs).request in (first, second)


def test_a_suspect_comes_at_its_place_and_does_not_hold_up_other_jobs(jobs: JobStore) -> None:
    first = create(jobs)
    claim(jobs)
    second = create(jobs)
    stall(jobs, first)
    third = create(jobs)

    assert [claim(jobs, worker).request for worker in "abc"] == [first, second, third]
    stall(jobs, first)
    stall(jobs, second)
    fourth = create(jobs)
    held = jobs.attempts.claim(MODEL, worker="d")
    assert isinstance(held, Claim)
    assert held.request == fourth


def test_a_suspect_of_a_lower_priority_does_not_starve(jobs: JobStore) -> None:
    suspect = create(jobs, priority=Priority.NORMAL)
    claim(jobs)
    stall(jobs, suspect)
    for _ in range(20):
        create(jobs, priority=Priority.INTERACTIVE)

    # Some of the workers cannot isolate it.
    claimed = [jobs.attempts.claim(MODEL, worker="w", may_isolate=number % 2 == 0) for number in range(8)]

    assert suspect in [one.request for one in claimed if isinstance(one, Claim)]


def test_a_released_or_postponed_suspect_stays_one(jobs: JobStore) -> None:
    (suspect,) = create_suspects(jobs, 1)

    jobs.attempts.release(suspect.id, claim(jobs).attempt_name, message="m")
    assert jobs.attempts.claim(MODEL, worker="w") is ClaimOutcome.EMPTY
    jobs.attempts.postpone(suspect.id, claim(jobs).attempt_name, jitter=0, is_counted=True)
    jobs.attempts.requeue_delayed(suspect.id, QUEUE, message="m")

    assert jobs.attempts.claim(MODEL, worker="w") is ClaimOutcome.EMPTY
    assert claim(jobs).is_isolated
    assert jobs.get(suspect.id).stalls == 1


def test_stalls_together_with_other_jobs_exhaust_none(jobs: JobStore) -> None:
    suspects = create_suspects(jobs, 4)

    for _ in range(10):
        for suspect, worker in zip(suspects, "abcd", strict=True):
            # Claimed, and its worker is lost before it has ended what else it runs.
            assert claim(jobs, worker).request == suspect
        outcomes = {stall(jobs, suspect) for suspect in suspects}
        assert outcomes == {RequeueStalledOutcome.QUEUED}

    assert [jobs.get(suspect.id).stalls for suspect in suspects] == [1] * 4


@pytest.mark.parametrize(("max_attempts", "stalls"), [(1, 2), (2, 2), (3, 3), (5, 5)])
def test_only_stalls_of_a_job_that_ran_alone_exhaust_it(clean_redis: str, max_attempts: int, stalls: int) -> None:
    jobs = open_store(clean_redis, max_attempts=max_attempts)
    job = create(jobs)
    outcomes = []

    while RequeueStalledOutcome.EXHAUSTED not in outcomes:
        held = claim(jobs)
        assert held.is_isolated == bool(outcomes)
        assert jobs.attempts.start_isolated(held)
        outcomes.append(stall(jobs, job))

    assert len(outcomes) == stalls
    # It is found again, should the steward end before it has failed the job.
    assert stall(jobs, job) is RequeueStalledOutcome.EXHAUSTED


def test_a_suspect_whose_lease_is_lost_is_not_started(jobs: JobStore) -> None:
    create_suspects(jobs, 1)
    lost = claim(jobs)
    stall(jobs, lost.request)
    held = claim(jobs)

    assert not jobs.attempts.start_isolated(lost)
    assert stall(jobs, held.request) is RequeueStalledOutcome.QUEUED
    assert jobs.get(held.request.id).stalls == 1


def test_suspects_count_as_queued(jobs: JobStore, redis_client: redis.Redis) -> None:
    create_suspects(jobs, 2)

    assert jobs.queues.backlog(QUEUE) == 2
    assert jobs.queues.measure_load(MODEL).queued[Priority.NORMAL] == 2
    with pytest.raises(QueueFull):
        jobs.queues.check_bounds(QUEUE, "public", QueueLimits(jobs=2, jobs_per_tenant=10))
    with pytest.raises(QueueFull):
        jobs.create(build_request(), limits=QueueLimits(jobs=2))
    assert redis_client.llen(QUEUE) == 2
    redis_client.delete(QUEUE)
    assert JobQueue(jobs._redis).missing_count(QUEUE) == 2


@pytest.mark.parametrize("how", ["finish", "purge"])
def test_a_suspect_that_ends_in_the_queue_leaves_nothing(jobs: JobStore, redis_client: redis.Redis, how: str) -> None:
    (suspect,) = create_suspects(jobs, 1)

    jobs.finish(suspect, JobState.CANCELED) if how == "finish" else jobs.purge(suspect.id)

    assert not redis_client.exists(redis_keys.suspected_jobs(QUEUE), redis_keys.ISOLATED, redis_keys.LEASES, QUEUE)


def test_a_message_does_not_wake_again_the_worker_that_cannot_isolate(
    jobs: JobStore, redis_client: redis.Redis
) -> None:
    create_suspects(jobs, 1)
    redis_client.delete(QUEUE)

    refused = jobs.attempts.claim(MODEL, worker="w", message=TakenMessage(QUEUE, "m"))

    assert refused is ClaimOutcome.EMPTY
    assert redis_client.llen(QUEUE) == 0
    # The steward enqueues another one.
    assert JobQueue(jobs._redis).missing_count(QUEUE) == 1
