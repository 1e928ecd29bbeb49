"""Redis without memory: new work is refused, running work is completed, and nothing is lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from shared.broker.envelope import encode_message
from shared.broker.queues import JobQueue
from shared.errors import StoreFull
from shared.jobs.messages import job_queue, queue_name
from shared.jobs.model import JobState, Priority
from shared.jobs.outcomes import RequeueDelayedOutcome, RequeueStalledOutcome
from shared.jobs.store import Claim, JobStore
from shared.layout import check_redis_layout
from shared.redis_client import connect
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.gateway import GatewayUnderTest, list_queued_ids, open_gateway, run_queue
from tests.support.jobs import MODEL, build_request, build_sync_request, png
from tests.support.polling import wait_until
from tests.support.redis_memory import fill
from tests.support.survey import find_delayed


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    # Without a maxmemory there is no reserve, so that the test meets the limit itself.
    return open_gateway(clean_redis, storage_env, max_redis_memory_share=1.0)


@pytest.fixture
def jobs(clean_redis: str, gateway: GatewayUnderTest) -> JobStore:
    return JobStore(connect(gateway.settings), lease_seconds=60, max_attempts=3, retry_delay_seconds=0)


@pytest.mark.parametrize("path", ["/v1/jobs", "/"])
def test_new_work_is_refused_at_once_and_accepted_again_later(
    gateway: GatewayUnderTest, redis_client: redis.Redis, path: str
) -> None:
    headers = {"Prefer": "respond-async"}
    with fill(redis_client, share=1.1):
        start = time.monotonic()
        refused = gateway.client.post(path, data=png(), headers=headers)
        seconds = time.monotonic() - start

    assert (refused.status_code, refused.json["error_type"]) == (429, "store_full")
    assert "memory" in refused.json["error"]
    assert int(refused.headers["Retry-After"]) > 0
    assert seconds < 1
    wait_until(lambda: gateway.client.post(path, data=png(), headers=headers).status_code == 202)


def test_a_synchronous_request_is_refused_at_once(gateway: GatewayUnderTest, redis_client: redis.Redis) -> None:
    with fill(redis_client, share=1.1):
        refused = gateway.client.post("/", data=png())

    assert (refused.status_code, refused.json["error_type"]) == (429, "store_full")
    assert list_queued_ids(gateway) == []


def test_new_work_is_refused_before_the_memory_is_used_up(
    clean_redis: str, storage_env: dict[str, str], redis_client: redis.Redis
) -> None:
    gateway = open_gateway(clean_redis, storage_env)

    with fill(redis_client, share=0.95):
        refused = [gateway.client.post(path, data=png()) for path in ("/v1/jobs", "/")]
        redis_client.set("test:reserve", b"there is memory left")
    with fill(redis_client, share=0.5):
        wait_until(lambda: gateway.client.post("/v1/jobs", data=png()).status_code == 202)

    assert [(one.status_code, one.json["error_type"]) for one in refused] == [(429, "store_full")] * 2


def test_jobs_are_claimed_completed_and_read_without_memory(
    gateway: GatewayUnderTest, redis_client: redis.Redis
) -> None:
    ids = [gateway.client.post("/v1/jobs", data=png()).json["id"] for _ in range(3)]

    with fill(redis_client, share=1.1):
        run_queue(gateway, queue_name(MODEL, Priority.NORMAL))
        for job_id in ids:
            assert gateway.client.get(f"/v1/jobs/{job_id}").json["state"] == "succeeded"
            assert gateway.client.get(f"/v1/jobs/{job_id}/result").status_code == 200


def test_a_caller_that_waits_gets_its_reply(gateway: GatewayUnderTest, redis_client: redis.Redis) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(gateway.client.post, "/", data=png())
        wait_until(lambda: list_queued_ids(gateway))
        with fill(redis_client, share=1.1):
            run_queue(gateway, queue_name(MODEL, Priority.INTERACTIVE))
            response = waiting.result(timeout=30)

    assert response.status_code == 200


def test_every_transition_but_the_first_needs_no_memory(
    jobs: JobStore, redis_client: redis.Redis, gateway: GatewayUnderTest
) -> None:
    queue = queue_name(MODEL, Priority.NORMAL)
    requests = [build_request() for _ in range(4)]
    sync = build_sync_request()
    for request in (*requests, sync):
        jobs.create(request)

    with fill(redis_client, share=1.1):
        with pytest.raises(StoreFull):
            jobs.create(build_request())
        claim = jobs.attempts.claim(MODEL, worker="w")
        assert isinstance(claim, Claim)
        assert claim.request.id == sync.id
        assert jobs.remove_waiter(sync.id) == 0
        assert jobs.finish(sync, JobState.SUCCEEDED)
        jobs.discard(requests[3])
        for _ in range(3):
            assert isinstance(jobs.attempts.claim(MODEL, worker="w"), Claim)
        attempts = [jobs.get(request.id).attempt_name for request in requests[:3]]
        assert jobs.attempts.renew(requests[0].id, attempts[0])
        jobs.attempts.abandon(requests[0].id, attempts[0])
        message = encode_message(queue)
        assert jobs.attempts.requeue_stalled(requests[0].id, message=message) is RequeueStalledOutcome.QUEUED
        jobs.attempts.release(requests[1].id, attempts[1], message=message)
        jobs.attempts.postpone(requests[2].id, attempts[2], jitter=0, is_counted=True)
        wait_until(lambda: find_delayed(jobs, queue))
        assert jobs.attempts.requeue_delayed(requests[2].id, queue, message=message) is RequeueDelayedOutcome.QUEUED
        JobQueue(connect(gateway.settings)).publish(queue, 3)
        assert jobs.queues.measure_load(MODEL).used_memory > jobs.queues.measure_load(MODEL).max_memory
        assert jobs.queues.backlog(queue) == 3
        for request in requests[:3]:
            assert jobs.finish(request, JobState.CANCELED)

    assert not jobs.is_known(requests[3].id)
    assert redis_client.llen(job_queue(requests[0])) <= 3


def test_workers_report_and_processes_start_without_memory(
    redis_client: redis.Redis, gateway: GatewayUnderTest
) -> None:
    client = connect(gateway.settings)
    check_redis_layout(client)
    registry = WorkerRegistry(client)

    with fill(redis_client, share=1.1):
        registry.report(WorkerStatus("w", MODEL, WorkerState.READY, load_seconds=1.5))
        check_redis_layout(client)

        snapshot = registry.snapshot()
    assert [worker.id for worker in snapshot.workers] == ["w"]
    assert snapshot.models == (MODEL,)
    assert snapshot.load_seconds == {MODEL: 1.5}
