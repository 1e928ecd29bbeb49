"""Redis that takes no writes, or none that need memory: no job is claimed whose end would be refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from shared.errors import StoreFull, StoreUnavailable
from shared.jobs.model import JobRequest, JobState, Priority
from shared.jobs.store import Claim, InputPayload, JobStore
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import MODEL, build_request, build_sync_request

IMAGE_BYTES = 2**20


@pytest.fixture
def jobs(clean_redis: str) -> JobStore:
    return JobStore(connect(Settings(redis_url=clean_redis)), lease_seconds=60, max_attempts=3)


def claim(jobs: JobStore) -> Claim:
    claimed = jobs.attempts.claim(MODEL, worker="w")
    assert isinstance(claimed, Claim)
    return claimed


def create_sync(jobs: JobStore) -> JobRequest:
    request = build_sync_request()
    jobs.create(request, payload=InputPayload(b"x" * IMAGE_BYTES, seconds=60))
    return request


@contextmanager
def refuse_writes(client: redis.Redis) -> Iterator[None]:
    """While the block runs, Redis refuses each write, as it does when it cannot persist its data."""
    client.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        client.config_set("min-replicas-to-write", 0)


def test_the_jobs_in_a_full_redis_end_and_their_ends_make_room(jobs: JobStore, redis_client: redis.Redis) -> None:
    requests = [create_sync(jobs) for _ in range(8)]
    used = int(redis_client.info("memory")["used_memory"])
    redis_client.config_set("maxmemory", used - IMAGE_BYTES)
    try:
        with pytest.raises(StoreFull):
            create_sync(jobs)
        for request in requests[:4]:
            held = claim(jobs)
            assert held.request == request
            assert jobs.attempts.renew(request.id, held.attempt_name)
            assert jobs.finish(request, JobState.SUCCEEDED)
        later = create_sync(jobs)
    finally:
        redis_client.config_set("maxmemory", 0)

    assert [claim(jobs).request for _ in range(5)] == [*requests[4:], later]


def test_a_redis_that_refuses_the_end_of_a_job_refuses_claims_and_loses_nothing(
    jobs: JobStore, redis_client: redis.Redis
) -> None:
    running, queued = build_request(), build_request()
    jobs.create(running)
    jobs.create(queued)
    held = claim(jobs)

    with refuse_writes(redis_client):
        for write in (
            lambda: jobs.attempts.claim(MODEL, worker="w"),
            lambda: jobs.finish(running, JobState.SUCCEEDED),
            lambda: jobs.attempts.renew(running.id, held.attempt_name),
            lambda: jobs.attempts.release(running.id, held.attempt_name, message="m"),
        ):
            with pytest.raises(StoreUnavailable):
                write()
        assert jobs.queues.measure_load(MODEL).queued[Priority.NORMAL] == 1
        assert jobs.get(queued.id).attempt == 0

    assert jobs.attempts.renew(running.id, held.attempt_name)
    assert jobs.finish(running, JobState.SUCCEEDED)
    assert claim(jobs).request == queued
