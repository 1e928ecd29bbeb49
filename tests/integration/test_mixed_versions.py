"""Documents of a newer version: they do not hold up the jobs that this version can read."""

import json
import time
from collections.abc import Callable

import pytest
import redis

from shared import redis_keys
from shared.broker.queues import JobQueue
from shared.jobs.lists import JobLists
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest, JobState
from shared.jobs.outcomes import ClaimOutcome
from shared.jobs.store import Claim, JobStore
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.keys import inbox_key, input_key, result_key
from tests.support.environment import get_fields
from tests.support.jobs import build_request, store_input
from tests.support.polling import wait_until
from tests.support.steward import Steward, build_steward
from tests.support.worker import claim_job

LEASE_SECONDS = 0.2


@pytest.fixture
def config(clean_redis: str, storage_env: dict[str, str]) -> Settings:
    return Settings(redis_url=clean_redis, **get_fields(storage_env))


@pytest.fixture
def jobs(config: Settings) -> JobStore:
    return JobStore(connect(config), lease_seconds=LEASE_SECONDS, max_attempts=3)


@pytest.fixture
def bucket(config: Settings) -> Bucket:
    return open_bucket(config)


@pytest.fixture
def steward(config: Settings, jobs: JobStore, bucket: Bucket) -> Steward:
    return build_steward(config, jobs, bucket)


def make_unreadable(client: "redis.Redis", request: JobRequest) -> None:
    """Change the record of a job as if a newer gateway had written it: with a kind of input that is unknown here."""
    document = json.loads(request.to_json()) | {"input": {"kind": "url"}}
    client.hset(redis_keys.job(request.id), "request", json.dumps(document))


def create_jobs(jobs: JobStore, client: "redis.Redis") -> tuple[JobRequest, JobRequest]:
    """Record two jobs without messages, the first of them unreadable."""
    unreadable, readable = build_request(), build_request()
    jobs.create(unreadable)
    jobs.create(readable)
    make_unreadable(client, unreadable)
    return unreadable, readable


def repeat_until(action: Callable[[], None], condition: Callable[[], bool]) -> None:
    def act_and_check() -> bool:
        action()
        return condition()

    wait_until(act_and_check)


def test_an_unreadable_orphaned_job_does_not_hold_up_another(
    jobs: JobStore, steward: Steward, config: Settings, redis_client: "redis.Redis"
) -> None:
    create_jobs(jobs, redis_client)
    queue = JobQueue(connect(config))

    repeat_until(steward.reconcile, lambda: not any(map(queue.missing_count, jobs.queues.list_names())))


def test_an_unreadable_stalled_job_does_not_hold_up_another(
    jobs: JobStore, bucket: Bucket, steward: Steward, redis_client: "redis.Redis"
) -> None:
    unreadable, readable = build_request(), build_request()
    for request in (unreadable, readable):
        jobs.create(request)
        assert claim_job(jobs, request.id)
        # So that the leases expire in this order.
        time.sleep(0.01)
    make_unreadable(redis_client, unreadable)
    bucket.put(result_key(unreadable.id), b'{"written": "by a newer version"}', content_type="application/json")

    repeat_until(steward.reconcile, lambda: jobs.get(readable.id).state is JobState.QUEUED)


def test_an_unreadable_job_stays_queued_and_does_not_hold_up_another(
    jobs: JobStore, redis_client: "redis.Redis"
) -> None:
    unreadable, readable = create_jobs(jobs, redis_client)

    outcomes = [jobs.attempts.claim(readable.model, worker="w") for _ in range(3)]

    assert outcomes == [
        ClaimOutcome.UNREADABLE,
        Claim(readable, 1, jobs.get(readable.id).attempt_name),
        ClaimOutcome.EMPTY,
    ]
    assert redis_client.hget(redis_keys.job(unreadable.id), "state") == b"queued"
    assert jobs.queues.running_count() == 1
    assert jobs.queues.backlog(job_queue(unreadable)) == 1


def test_an_unreadable_job_does_not_hide_the_list(jobs: JobStore, redis_client: "redis.Redis") -> None:
    _, readable = create_jobs(jobs, redis_client)

    page, _ = JobLists(jobs._redis).list_newest("public", limit=10)

    assert [job.id for job in page] == [readable.id]


def test_members_that_a_newer_version_added_are_ignored() -> None:
    request = build_request()
    document = json.loads(request.to_json()) | {"added_later": {"url": "https://example.org"}}

    assert JobRequest.from_json(json.dumps(document)) == request


def test_a_record_of_a_newer_version_does_not_hold_up_the_recovery(
    jobs: JobStore, redis_client: "redis.Redis", bucket: Bucket, steward: Steward
) -> None:
    newer, failed, lost = (build_request() for _ in range(3))
    for request in (newer, failed, lost):
        store_input(bucket, request, b"image")
    redis_client.hset(redis_keys.job(newer.id), mapping={"state": "paused"})
    failure = json.dumps({"code": "not_an_image", "message": "no", "hint": "another one"})
    redis_client.hset(redis_keys.job(failed.id), mapping={"state": "failed", "failure": failure})

    steward.recovery.recover_jobs()

    assert jobs.is_known(lost.id)
    assert bucket.get(inbox_key(newer.id)) == bucket.get(input_key(failed.id)) == b"image"
