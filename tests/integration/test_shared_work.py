"""The synchronous path does the same work once: from the cache, or by joining what is under way."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.jobs.model import JobState
from shared.redis_client import connect
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.gateway import GatewayUnderTest, do_job, gateway
from tests.support.jobs import MODEL, png
from tests.support.polling import wait_until

QUEUE = f"segment.{MODEL}.interactive"


@pytest.fixture
def served(clean_redis: str, storage_env: dict[str, str]) -> Iterator[GatewayUnderTest]:
    """A gateway whose model has a ready worker, by its heartbeat; its jobs are done by hand."""
    built = gateway(clean_redis, storage_env, sync_deadline_seconds=10, cold_start_seconds=1)
    report(built, WorkerState.READY)
    yield built


def report(built: GatewayUnderTest, state: WorkerState, **facts: object) -> None:
    status = WorkerStatus("w", MODEL, state, revision="r1", since=time.time(), **facts)  # type: ignore[arg-type]
    WorkerRegistry(connect(built.settings)).report(status)


def ask(built: GatewayUnderTest, image: bytes = b"", *, query: str = "", **headers: str):  # type: ignore[no-untyped-def]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return built.client.application.test_client().post(f"/?{query}", data=image or png(), headers=named)


def queued_ids(built: GatewayUnderTest) -> list[str]:
    return [job.decode() for job in connect(built.settings, decode=False).zrange(f"mm:queued:{QUEUE}", 0, -1)]


def do_next(built: GatewayUnderTest) -> str:
    wait_until(lambda: queued_ids(built))
    (job_id,) = queued_ids(built)
    do_job(built, job_id)
    return job_id


def test_the_second_time_the_result_comes_from_the_cache(served: GatewayUnderTest) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, served)
        job_id = do_next(served)

        second = ask(served)

    assert first.result().headers["x-maskmill-cache"] == "miss"
    assert second.headers["x-maskmill-cache"] == "hit"
    assert second.headers["x-maskmill-job-id"] == job_id
    assert second.data == first.result().data


def test_a_result_is_had_from_the_bucket_when_redis_has_dropped_the_reply(served: GatewayUnderTest) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, served)
        job_id = do_next(served)
    connect(served.settings).delete(f"mm:reply:{job_id}", f"mm:job:{job_id}")

    second = ask(served)

    assert second.headers["x-maskmill-cache"] == "hit"
    assert json.loads(second.data) == json.loads(first.result().data)


def test_other_parameters_are_other_work(served: GatewayUnderTest) -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(ask, served)
        do_next(served)
        other = pool.submit(ask, served, query="threshold=0.5")
        do_next(served)

    assert other.result().headers["x-maskmill-cache"] == "miss"


def test_who_refuses_the_cache_is_computed_for(served: GatewayUnderTest) -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(ask, served)
        first_id = do_next(served)
        fresh = pool.submit(ask, served, x_use_cache="false")
        second_id = do_next(served)

    assert fresh.result().headers["x-maskmill-cache"] == "miss"
    assert fresh.result().headers["x-maskmill-job-id"] == second_id != first_id


def test_identical_requests_under_way_are_computed_once(served: GatewayUnderTest) -> None:
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(ask, served) for _ in range(50)]
        wait_until(lambda: waiters(served) == 50, seconds=20)
        do_next(served)
        answers = [answer.result() for answer in asked]

    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.headers["x-maskmill-cache"] for answer in answers) == ["coalesced"] * 49 + ["miss"]
    assert len({answer.headers["x-maskmill-job-id"] for answer in answers}) == 1


def waiters(built: GatewayUnderTest) -> int:
    ids = queued_ids(built)
    return int(connect(built.settings).hget(f"mm:job:{ids[0]}", "waiters") or 0) if ids else 0


def test_who_joined_a_job_is_answered_although_the_first_has_left(
    served: GatewayUnderTest, clean_redis: str, storage_env: dict[str, str]
) -> None:
    hasty = gateway(clean_redis, storage_env, sync_deadline_seconds=1)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, hasty)
        wait_until(lambda: waiters(served) == 1)
        second = pool.submit(ask, served)
        wait_until(lambda: waiters(served) == 2)
        assert first.result().status_code == 504

        # The job's deadline was the first caller's: it expires, and the second is given one of his own.
        wait_until(lambda: second.done() or do_queued(served))

    assert second.result().status_code == 200


def do_queued(built: GatewayUnderTest) -> bool:
    for job_id in queued_ids(built):
        do_job(built, job_id)
    return False


def test_a_job_that_nobody_waits_for_any_more_never_reaches_a_device(
    clean_redis: str, storage_env: dict[str, str]
) -> None:
    built = gateway(clean_redis, storage_env, sync_deadline_seconds=0.5)
    report(built, WorkerState.READY)

    answer = ask(built)

    assert answer.status_code == 504
    assert queued_ids(built) == []


def test_a_model_without_a_ready_worker_is_a_late_503_with_an_estimate(served: GatewayUnderTest) -> None:
    report(served, WorkerState.READY, load_seconds=90.0)
    report(served, WorkerState.LOADING)
    time.sleep(1.1)  # the gateway looks at heartbeats once a second
    started = time.monotonic()

    answer = ask(served)

    assert answer.status_code == 503
    assert time.monotonic() - started >= 1
    assert answer.json["error"] == f"Model {MODEL} is currently loading"
    assert 80 < answer.json["estimated_time"] <= 90
    assert queued_ids(served) == []


def test_who_waits_for_the_model_is_answered_when_it_is_there(served: GatewayUnderTest) -> None:
    report(served, WorkerState.LOADING)
    time.sleep(1.1)  # the gateway looks at heartbeats once a second
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask, served, x_wait_for_model="true")
        timer = threading.Timer(1.5, do_next, [served])
        timer.start()

        assert asked.result().status_code == 200


def test_who_prefers_a_job_gets_one(served: GatewayUnderTest) -> None:
    answer = ask(served, Prefer="respond-async")

    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.json["state"] == JobState.QUEUED
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"


def test_who_would_rather_wait_a_while_gets_the_masks_if_they_come(served: GatewayUnderTest) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask, served, Prefer="respond-async, wait=9")
        batch = f"mm:queued:segment.{MODEL}.normal"
        wait_until(lambda: connect(served.settings).zcard(batch))
        do_job(served, connect(served.settings).zrange(batch, 0, -1)[0])

    assert asked.result().status_code == 200
    assert [found["label"] for found in asked.result().json] == ["cat", "dog"]
