"""Keys and channels of one prefix in a real Valkey."""

import threading
from urllib.parse import urlsplit

import pytest
import redis

from shared.broker.envelope import encode_message
from shared.jobs.events import POLL_INTERVAL_SECONDS, JobEvents
from shared.jobs.messages import job_queue
from shared.jobs.model import JobState
from shared.jobs.outcomes import RequeueDelayedOutcome, RequeueStalledOutcome
from shared.jobs.payloads import PayloadStore
from shared.jobs.store import Claim, DedupKey, InputPayload, JobStore, QueueLimits, TakenMessage
from shared.jobs.survey import JobEnd, JobSurvey
from shared.redis_client import RedisClient, connect
from shared.settings import Settings
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.jobs import build_request, build_sync_request
from tests.support.polling import wait_until
from worker.steward.duty_runs import DutyRuns
from worker.steward.leases import DutyLeases


@pytest.fixture
def config(clean_redis: str) -> Settings:
    return Settings(redis_url=clean_redis, redis_prefix="roads")


def test_an_event_wakes_the_waiters_of_its_own_stack_only(config: Settings) -> None:
    other = config.model_copy(update={"redis_prefix": "rivers"})
    mine, theirs = (PayloadStore(connect(one, decode=False)) for one in (config, other))
    events = JobEvents(connect(config))
    polls: list[bytes | None] = []

    def poll() -> bytes | None:
        polls.append(mine.get_reply("job"))
        return polls[-1]

    thread = threading.Thread(target=lambda: events.wait_for("job", poll, seconds=20))
    thread.start()
    # Once at the start, and once because there is a subscription now.
    wait_until(lambda: len(polls) >= 2)
    before = len(polls)
    theirs.put_reply("job", b"theirs")
    mine.put_reply("job", b"mine")
    thread.join(POLL_INTERVAL_SECONDS / 2)

    assert not thread.is_alive()
    assert polls[before:] == [b"mine"]
    assert theirs.get_reply("job") == b"theirs"
    events.close()


def test_a_pipeline_adds_the_prefix(config: Settings, clean_redis: str) -> None:
    with connect(config) as client, client.pipeline() as batch:
        batch.zadd("mm:leases", {"job": 1}).zcard("mm:leases")

        assert batch.execute() == [1, 1]

    with connect(Settings(redis_url=clean_redis)) as client:
        assert client.exists("roads:mm:leases", "mm:leases") == 1


@pytest.fixture
def confined_client(config: Settings, redis_client: redis.Redis) -> RedisClient:
    """A client whose user may use no key and no channel without the prefix."""
    redis_client.acl_setuser(
        "roads",
        enabled=True,
        passwords=["+secret"],
        categories=["+@all"],
        keys=["roads:*"],
        channels=["roads:*"],
        reset=True,
    )
    parts = urlsplit(config.redis_url)
    url = parts._replace(netloc=f"roads:secret@{parts.hostname}:{parts.port}").geturl()
    return connect(config.model_copy(update={"redis_url": url}))


def list_prefixes(client: redis.Redis) -> set[bytes]:
    return {key.partition(b":")[0] for key in client.scan_iter()}


def test_a_user_who_may_use_no_other_key_can_run_a_job(confined_client: RedisClient, redis_client: redis.Redis) -> None:
    jobs = JobStore(confined_client, lease_seconds=0.001, max_attempts=3, retry_delay_seconds=0)
    request = build_sync_request()
    queue = job_queue(request)
    message = encode_message(queue)

    jobs.queues.check_bounds(queue, request.tenant, QueueLimits(jobs=1, jobs_per_tenant=1))
    jobs.create(request, message=message, payload=InputPayload(b"image", 30), dedup=DedupKey("same", 60))

    def claim() -> str:
        claimed = jobs.attempts.claim(request.model, worker="w", message=TakenMessage(queue, message))
        assert isinstance(claimed, Claim)
        return claimed.attempt_name

    jobs.attempts.release(request.id, claim(), message=message)
    jobs.attempts.postpone(request.id, claim(), jitter=0, is_counted=True)
    wait_until(
        lambda: jobs.attempts.requeue_delayed(request.id, queue, message=message) is RequeueDelayedOutcome.QUEUED
    )
    claim()
    wait_until(lambda: jobs.attempts.requeue_stalled(request.id, message=message) is RequeueStalledOutcome.QUEUED)
    assert jobs.queues.measure_load(request.model).queued[request.priority] == 1
    jobs.finish(request, JobState.SUCCEEDED)
    jobs.purge(request.id)
    WorkerRegistry(confined_client).report(WorkerStatus("w", request.model, WorkerState.READY))

    assert len(WorkerRegistry(confined_client).snapshot().workers) == 1
    assert list_prefixes(redis_client) == {b"roads"}


def test_a_user_who_may_use_no_other_key_can_isolate_a_suspect(
    confined_client: RedisClient, redis_client: redis.Redis
) -> None:
    jobs, survey = JobStore(confined_client, lease_seconds=0.001, max_attempts=3), JobSurvey(confined_client)
    request, discarded = build_request(), build_request()
    for one in (discarded, request):
        jobs.create(one)
    jobs.discard(discarded)

    for is_suspect in (False, True):
        claimed = jobs.attempts.claim(request.model, worker="w", may_isolate=True)
        assert isinstance(claimed, Claim)
        assert claimed.is_isolated is is_suspect
        assert jobs.attempts.start_isolated(claimed)
        jobs.attempts.renew(request.id, claimed.attempt_name)
        wait_until(lambda: survey.find_stalled().job_ids == [request.id])
        assert jobs.attempts.requeue_stalled(request.id, message="m") is RequeueStalledOutcome.QUEUED
    assert jobs.remove_waiter(request.id) == 0

    assert list_prefixes(redis_client) == {b"roads"}


def test_a_user_who_may_use_no_other_key_can_do_the_duties_of_a_steward(
    confined_client: RedisClient, redis_client: redis.Redis
) -> None:
    jobs = JobStore(confined_client, lease_seconds=60, max_attempts=3, retry_delay_seconds=0)
    survey = JobSurvey(confined_client)
    request = build_request()
    jobs.create(request)
    claimed = jobs.attempts.claim(request.model, worker="w")
    assert isinstance(claimed, Claim)
    jobs.attempts.postpone(request.id, claimed.attempt_name, jitter=0, is_counted=False)
    runs = DutyRuns(confined_client, observe=lambda _duty, _seconds: None)

    wait_until(lambda: [found.job_id for found in survey.find_delayed()] == [request.id])
    assert survey.find_ends([request.id]) == [JobEnd(JobState.QUEUED)]
    assert survey.measure_ages().running == 0
    survey.prune_lists(is_thorough=True)
    with DutyLeases(confined_client).hold("work") as is_held:
        assert is_held
    runs.duty_completed("work", 0.1)
    runs.record()
    assert set(runs.read()) == {"work"}

    assert list_prefixes(redis_client) == {b"roads"}
