"""Jobs that are given back: growing delays with jitter, a bound on those that are counted, and the job's place."""

from __future__ import annotations

import time

import pytest
import redis

from shared import redis_keys
from shared.jobs.model import JobState
from shared.jobs.outcomes import ReleaseOutcome
from shared.jobs.store import Claim, JobStore
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import MODEL, build_request

QUEUE = f"segment.{MODEL}.normal"
MAX_RETRIES = 24


@pytest.fixture
def jobs(clean_redis: str) -> JobStore:
    client = connect(Settings(redis_url=clean_redis))
    return JobStore(client, lease_seconds=60, max_attempts=3, max_retries=MAX_RETRIES)


def claim(jobs: JobStore) -> Claim:
    claimed = jobs.attempts.claim(MODEL, worker="w", may_isolate=True)
    assert isinstance(claimed, Claim)
    return claimed


def postpone(
    jobs: JobStore, client: redis.Redis, *, jitter: float = 0.0, is_counted: bool = True
) -> float | ReleaseOutcome:
    """Claim the only job and give it back; return its delay in seconds, rounded, and end the delay."""
    held = claim(jobs)
    before = time.time()
    outcome = jobs.attempts.postpone(held.request.id, held.attempt_name, jitter=jitter, is_counted=is_counted)
    if outcome is not ReleaseOutcome.QUEUED:
        return outcome
    delayed = redis_keys.delayed_jobs(QUEUE)
    due = client.zscore(delayed, held.request.id)
    client.zadd(delayed, {held.request.id: before})
    jobs.attempts.requeue_delayed(held.request.id, QUEUE, message="m")
    return round(due - before, 1)


def test_counted_delays_double_up_to_five_minutes_until_the_job_is_exhausted(
    jobs: JobStore, redis_client: redis.Redis
) -> None:
    request = build_request()
    jobs.create(request)

    delays = [postpone(jobs, redis_client) for _ in range(MAX_RETRIES)]

    assert delays == [1, 2, 4, 8, 16, 32, 64, 128] + [150] * 16
    # With the mean of the jitter, three quarters of the longest delay, the job is tried for about an hour.
    assert 3000 < sum(delays) * 1.5 < 4500
    assert postpone(jobs, redis_client) is ReleaseOutcome.EXHAUSTED
    job = jobs.get(request.id)
    assert (job.state, job.stalls) == (JobState.RUNNING, 0)
    assert jobs.attempts.renew(request.id, job.attempt_name)


def test_the_longest_delay_has_the_most_jitter(jobs: JobStore, redis_client: redis.Redis) -> None:
    jobs.create(build_request())

    assert postpone(jobs, redis_client, jitter=0.5) == 1.5
    assert postpone(jobs, redis_client, jitter=0.999) == 4


def test_releases_that_are_not_counted_neither_grow_nor_exhaust(jobs: JobStore, redis_client: redis.Redis) -> None:
    jobs.create(build_request())

    delays = [postpone(jobs, redis_client, is_counted=False) for _ in range(MAX_RETRIES + 5)]

    assert set(delays) == {1}
    assert postpone(jobs, redis_client) == 1


def test_no_delay_exceeds_the_deadline(jobs: JobStore, redis_client: redis.Redis) -> None:
    jobs.create(build_request(deadline_at=time.time() + 10))

    delays = [postpone(jobs, redis_client) for _ in range(8)]

    assert max(delays) <= 10


def test_a_release_of_an_old_attempt_has_no_effect(jobs: JobStore) -> None:
    jobs.create(build_request())
    old = claim(jobs)
    jobs.attempts.release(old.request.id, old.attempt_name, message="m")
    held = claim(jobs)

    assert jobs.attempts.postpone(old.request.id, old.attempt_name, jitter=0, is_counted=True) is ReleaseOutcome.LOST
    assert jobs.attempts.release(old.request.id, old.attempt_name, message="m") is ReleaseOutcome.LOST
    assert jobs.attempts.renew(held.request.id, held.attempt_name)


def test_a_recovered_job_comes_before_those_that_were_created_after_it(
    jobs: JobStore, redis_client: redis.Redis
) -> None:
    lost, later = build_request(), build_request()
    jobs.create(later)
    jobs.create(lost, is_recovered=True)

    assert [claim(jobs).request for _ in range(2)] == [lost, later]
