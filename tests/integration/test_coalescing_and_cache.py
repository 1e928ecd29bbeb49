"""Identical synchronous requests are computed once: they are cached, or coalesced with the running job."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.inference import synchronous
from api.server.budget import ByteBudget
from api.server.options import RESERVATION_KEY
from shared import redis_keys
from shared.images.formats import DECODING_VERSION
from shared.jobs.model import JobState
from shared.redis_client import connect
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.gateway import GatewayUnderTest, list_queued_ids, open_gateway, run_job
from tests.support.jobs import MODEL, png
from tests.support.polling import wait_until


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> Iterator[GatewayUnderTest]:
    """A gateway whose model has a ready worker, by its heartbeat; a test runs the jobs itself."""
    gateway = open_gateway(clean_redis, storage_env, sync_deadline_seconds=10, cold_start_seconds=1)
    report_worker(gateway, WorkerState.READY)
    yield gateway


def report_worker(gateway: GatewayUnderTest, state: WorkerState, **fields: object) -> None:
    status = WorkerStatus("w", MODEL, state, revision="r1", since=time.time(), **fields)  # type: ignore[arg-type]
    WorkerRegistry(connect(gateway.settings)).report(status)


def post_image(gateway: GatewayUnderTest, image: bytes = b"", *, query: str = "", **headers: str):  # type: ignore[no-untyped-def]
    header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return gateway.client.application.test_client().post(f"/?{query}", data=image or png(), headers=header_fields)


def run_next_job(gateway: GatewayUnderTest) -> str:
    wait_until(lambda: list_queued_ids(gateway))
    (job_id,) = list_queued_ids(gateway)
    run_job(gateway, job_id)
    return job_id


def test_a_repeated_request_is_a_cache_hit(gateway: GatewayUnderTest) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post_image, gateway)
        job_id = run_next_job(gateway)

        second = post_image(gateway)

    assert first.result().headers["x-maskmill-cache"] == "miss"
    assert second.headers["x-maskmill-cache"] == "hit"
    assert second.headers["x-maskmill-job-id"] == job_id
    assert second.data == first.result().data


def test_a_cache_hit_is_read_from_the_bucket_if_the_reply_has_expired(gateway: GatewayUnderTest) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post_image, gateway)
        job_id = run_next_job(gateway)
    connect(gateway.settings).delete(redis_keys.reply_payload(job_id), redis_keys.job(job_id))

    second = post_image(gateway)

    assert second.headers["x-maskmill-cache"] == "hit"
    assert json.loads(second.data) == json.loads(first.result().data)


def test_a_result_of_other_pixels_is_not_reused(gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(post_image, gateway)
        run_next_job(gateway)
        monkeypatch.setattr(synchronous, "DECODING_VERSION", DECODING_VERSION + 1)
        other = pool.submit(post_image, gateway)
        run_next_job(gateway)

    assert other.result().headers["x-maskmill-cache"] == "miss"


def test_a_request_with_other_parameters_is_a_cache_miss(gateway: GatewayUnderTest) -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(post_image, gateway)
        run_next_job(gateway)
        other = pool.submit(post_image, gateway, query="threshold=0.5")
        run_next_job(gateway)

    assert other.result().headers["x-maskmill-cache"] == "miss"


def test_x_use_cache_false_recomputes_the_result(gateway: GatewayUnderTest) -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(post_image, gateway)
        first_id = run_next_job(gateway)
        recomputed = pool.submit(post_image, gateway, x_use_cache="false")
        second_id = run_next_job(gateway)

    assert recomputed.result().headers["x-maskmill-cache"] == "miss"
    assert recomputed.result().headers["x-maskmill-job-id"] == second_id != first_id


def test_identical_concurrent_requests_are_coalesced(gateway: GatewayUnderTest) -> None:
    with ThreadPoolExecutor(50) as pool:
        pending = [pool.submit(post_image, gateway) for _ in range(50)]
        wait_until(lambda: waiter_count(gateway) == 50, seconds=20)
        run_next_job(gateway)
        responses = [response.result() for response in pending]

    assert {response.status_code for response in responses} == {200}
    assert sorted(response.headers["x-maskmill-cache"] for response in responses) == ["coalesced"] * 49 + ["miss"]
    assert len({response.headers["x-maskmill-job-id"] for response in responses}) == 1


def waiter_count(gateway: GatewayUnderTest) -> int:
    ids = list_queued_ids(gateway)
    return int(connect(gateway.settings).hgetall(redis_keys.job(ids[0])).get("waiters", 0)) if ids else 0


def test_a_coalesced_request_is_to_be_sent_again_if_the_job_expires_with_the_first(
    gateway: GatewayUnderTest, clean_redis: str, storage_env: dict[str, str]
) -> None:
    gateway_with_deadline = open_gateway(clean_redis, storage_env, sync_deadline_seconds=1)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post_image, gateway_with_deadline)
        wait_until(lambda: waiter_count(gateway) == 1)
        second = pool.submit(post_image, gateway)
        wait_until(lambda: waiter_count(gateway) == 2)
        assert first.result().status_code == 504

        # The job has the deadline of the first request: it expires, and the image of the second is not held any more.
        wait_until(lambda: second.done() or run_queued_jobs(gateway))
        again = pool.submit(post_image, gateway)
        run_next_job(gateway)

    assert (second.result().status_code, second.result().json["error_type"]) == (503, "shared_job_ended")
    assert second.result().headers["Retry-After"] == "1"
    assert again.result().status_code == 200
    assert again.result().headers["x-maskmill-cache"] == "miss"


def test_callers_that_wait_do_not_hold_their_images(gateway: GatewayUnderTest) -> None:
    budget = ByteBudget(1_000_000)
    with ThreadPoolExecutor() as pool:
        pending = [pool.submit(post_reserved, gateway, budget) for _ in range(3)]
        wait_until(lambda: waiter_count(gateway) == 3)
        wait_until(lambda: budget.used == 0)
        run_next_job(gateway)

    assert {response.result().status_code for response in pending} == {200}


def post_reserved(gateway: GatewayUnderTest, budget: ByteBudget):  # type: ignore[no-untyped-def]
    """Send an image that the server has reserved bytes for, as it does."""
    environ = {RESERVATION_KEY: budget.reserve(len(png()))}
    return gateway.client.application.test_client().post("/", data=png(), environ_overrides=environ)


def run_queued_jobs(gateway: GatewayUnderTest) -> bool:
    for job_id in list_queued_ids(gateway):
        run_job(gateway, job_id)
    return False


def test_a_job_without_waiters_leaves_the_queue(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, sync_deadline_seconds=0.5)
    report_worker(gateway, WorkerState.READY)

    response = post_image(gateway)

    assert response.status_code == 504
    assert list_queued_ids(gateway) == []


def test_a_model_without_a_ready_worker_is_a_delayed_503_with_an_estimate(gateway: GatewayUnderTest) -> None:
    report_worker(gateway, WorkerState.READY, load_seconds=90.0)
    report_worker(gateway, WorkerState.LOADING)
    time.sleep(1.1)  # the gateway reads heartbeats once a second
    started = time.monotonic()

    response = post_image(gateway)

    assert response.status_code == 503
    assert time.monotonic() - started >= 1
    assert response.json["error"] == f"Model {MODEL} is currently loading"
    assert 80 < response.json["estimated_time"] <= 90
    assert list_queued_ids(gateway) == []


def test_x_wait_for_model_waits_until_the_model_is_ready(gateway: GatewayUnderTest) -> None:
    report_worker(gateway, WorkerState.LOADING)
    time.sleep(1.1)  # the gateway reads heartbeats once a second
    with ThreadPoolExecutor() as pool:
        pending = pool.submit(post_image, gateway, x_wait_for_model="true")
        timer = threading.Timer(1.5, run_next_job, [gateway])
        timer.start()

        assert pending.result().status_code == 200


def test_prefer_respond_async_submits_a_job(gateway: GatewayUnderTest) -> None:
    response = post_image(gateway, Prefer="respond-async")

    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "respond-async"
    assert response.json["state"] == JobState.QUEUED
    assert response.headers["Location"] == f"/v1/jobs/{response.json['id']}"


def test_prefer_wait_returns_the_masks_of_a_job_that_succeeds_in_time(gateway: GatewayUnderTest) -> None:
    with ThreadPoolExecutor() as pool:
        pending = pool.submit(post_image, gateway, Prefer="respond-async, wait=9")
        queue = redis_keys.queued_jobs(f"segment.{MODEL}.normal")
        wait_until(lambda: connect(gateway.settings).zcard(queue))
        run_job(gateway, connect(gateway.settings).zrange(queue, 0, -1)[0])

    assert pending.result().status_code == 200
    assert [found["label"] for found in pending.result().json] == ["cat", "dog"]
