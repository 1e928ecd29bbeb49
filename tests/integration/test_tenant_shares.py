"""One tenant cannot take all of the queue, of the waiting slots, or of the bytes of the payloads."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from api.routes.context import EXTENSION
from api.routes.huggingface import MIN_503_SECONDS
from deploy.local.servers import free_ports
from shared import redis_keys
from shared.errors import PayloadsFull, QueueFull
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest, JobState
from shared.jobs.store import Claim, InputPayload, JobStore, QueueLimits
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.gateway import GatewayUnderTest, consume_messages, list_queued_ids, open_gateway, run_job
from tests.support.jobs import MODEL, build_request, build_sync_request, png
from tests.support.polling import wait_until

TOKENS = "alice:a-token,bob:b-token"
ALICE, BOB = {"Authorization": "Bearer a-token"}, {"Authorization": "Bearer b-token"}


@pytest.fixture
def jobs(clean_redis: str) -> JobStore:
    return JobStore(connect(Settings(redis_url=clean_redis)), lease_seconds=60, max_attempts=3)


def test_a_tenant_fills_its_share_of_the_queue_and_no_more(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, tokens=TOKENS, max_queued=4)

    alice = [gateway.client.post("/v1/jobs", data=png(), headers=ALICE) for _ in range(3)]
    bob = gateway.client.post("/v1/jobs", data=png(), headers=BOB)

    assert [one.status_code for one in alice] == [202, 202, 429]
    assert alice[2].json["error_type"] == "queue_full"
    assert "your jobs" in alice[2].json["error"]
    assert "q=2" in alice[2].headers["RateLimit-Policy"]
    assert bob.status_code == 202


def test_without_tokens_the_only_tenant_may_fill_the_queue(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, max_queued=4)

    statuses = [gateway.client.post("/v1/jobs", data=png()).status_code for _ in range(5)]

    assert statuses == [202, 202, 202, 202, 429]


def test_a_job_leaves_the_share_when_it_is_final_or_discarded(jobs: JobStore) -> None:
    def create() -> JobRequest:
        request = build_request()
        jobs.create(request, limits=QueueLimits(jobs_per_tenant=1))
        return request

    first = create()
    with pytest.raises(QueueFull):
        create()
    jobs.finish(first, JobState.CANCELED)
    second = create()
    jobs.discard(second)
    third = create()
    assert isinstance(jobs.attempts.claim(MODEL, worker="w"), Claim)
    with pytest.raises(QueueFull):
        create()
    jobs.finish(third, JobState.SUCCEEDED)
    create()


def test_a_job_that_an_earlier_version_finished_does_not_stay_in_the_share(
    jobs: JobStore, redis_client: redis.Redis
) -> None:
    stale = [build_request() for _ in range(2)]
    for request in stale:
        jobs.create(request)
        redis_client.hset(redis_keys.job(request.id), "state", "succeeded")
    redis_client.delete(redis_keys.job(stale[0].id))
    limits = QueueLimits(jobs=100, jobs_per_tenant=2)

    jobs.queues.check_bounds(job_queue(stale[0]), "public", limits)
    jobs.create(build_request(), limits=limits)
    jobs.create(build_request(), limits=limits)

    with pytest.raises(QueueFull):
        jobs.create(build_request(), limits=limits)


def test_the_bytes_of_payloads_are_bounded_for_a_tenant_and_for_all(jobs: JobStore) -> None:
    def create(tenant: str, size: int) -> None:
        request = build_sync_payload(tenant, size)
        jobs.create(request, payload=InputPayload(bytes(size), 60, max_bytes=100, max_bytes_per_tenant=60))

    create("a", 60)
    with pytest.raises(PayloadsFull, match="your"):
        create("a", 1)
    create("b", 40)
    with pytest.raises(PayloadsFull, match="Too many images of synchronous"):
        create("c", 1)


def build_sync_payload(tenant: str, size: int) -> JobRequest:
    """Return the request of a synchronous job with an image of so many bytes."""
    template = build_sync_request(tenant=tenant)
    image = type(template.image)("PNG", 6, 4, size, "00" * 32)
    return build_sync_request(tenant=tenant, image=image)


def test_a_payload_that_expires_leaves_the_accounts(jobs: JobStore, redis_client: redis.Redis) -> None:
    """As after the loss of the gateway that would have completed the job."""
    payload = InputPayload(bytes(10), 0.05, max_bytes=10)
    first = build_sync_payload("a", 10)
    jobs.create(first, payload=payload)
    wait_until(lambda: not redis_client.exists(redis_keys.input_payload(first.id)))

    jobs.create(build_sync_payload("b", 10), payload=payload)

    assert redis_client.hgetall(redis_keys.PAYLOAD_BYTES) == {b"b": b"10", b"*": b"10"}


def test_a_submission_that_is_sent_again_counts_once(jobs: JobStore, redis_client: redis.Redis) -> None:
    request = build_sync_payload("a", 10)
    for _ in range(3):
        jobs.create(request, payload=InputPayload(bytes(10), 60))
    assert redis_client.hget(redis_keys.PAYLOAD_BYTES, "a") == b"10"

    for _ in range(3):
        jobs.finish(request, JobState.SUCCEEDED)

    assert not redis_client.exists(redis_keys.PAYLOAD_BYTES, redis_keys.PAYLOADS)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["create", "create_sync", "claim", "succeed", "cancel", "discard", "release", "stall"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 5),
    ),
    max_size=40,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
def test_the_accounts_agree_with_the_jobs_after_any_operations(
    jobs: JobStore, redis_client: redis.Redis, operations: list[tuple[str, str, int]]
) -> None:
    redis_client.flushall()
    known: list[JobRequest] = []
    for operation, tenant, number in operations:
        if operation.startswith("create"):
            known.append(create_job(jobs, tenant, is_sync=operation == "create_sync", size=number + 1))
        elif operation == "claim":
            jobs.attempts.claim(MODEL, worker="w")
        elif known:
            change_job(jobs, operation, known[number % len(known)])

    open_jobs = [one for one in known if jobs.is_known(one.id) and not jobs.get(one.id).state.is_final]
    shares = Counter((job_queue(one), one.tenant) for one in open_jobs)
    stored = Counter[str]()
    for one in known:
        if not one.input.is_durable and redis_client.exists(redis_keys.input_payload(one.id)):
            stored.update({one.tenant: one.image.bytes, "*": one.image.bytes})
    for queue in {job_queue(one) for one in known}:
        for tenant in ("a", "b"):
            assert redis_client.zcard(redis_keys.unfinished_jobs(queue, tenant)) == shares[(queue, tenant)]
    counted = {name.decode(): int(size) for name, size in redis_client.hgetall(redis_keys.PAYLOAD_BYTES).items()}
    assert counted == dict(stored)


def create_job(jobs: JobStore, tenant: str, *, is_sync: bool, size: int) -> JobRequest:
    request = build_sync_payload(tenant, size) if is_sync else build_request(tenant=tenant)
    jobs.create(request, payload=InputPayload(bytes(size), 60) if is_sync else None)
    return request


def change_job(jobs: JobStore, operation: str, request: JobRequest) -> None:
    attempt_name = jobs.get(request.id).attempt_name if jobs.is_known(request.id) else ""
    match operation:
        case "succeed":
            jobs.finish(request, JobState.SUCCEEDED)
        case "cancel":
            jobs.finish(request, JobState.CANCELED)
        case "discard":
            jobs.discard(request)
        case "release":
            jobs.attempts.release(request.id, attempt_name, message="m")
        case "stall":
            jobs.attempts.abandon(request.id, attempt_name)
            jobs.attempts.requeue_stalled(request.id, message="m")


@pytest.fixture
def small_gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    """A gateway with two waiting slots for each tenant, and three in all."""
    return open_gateway(clean_redis, storage_env, tokens=TOKENS, max_waiting=3, max_waiting_per_tenant=2)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def call(gateway: GatewayUnderTest, headers: dict[str, str], number: int) -> TestResponse:
    """Send a synchronous request with an image of its own."""
    response: TestResponse = gateway.client.application.test_client().post(
        "/", data=png(8 + number, 8), headers=headers
    )
    return response


def test_waiting_callers_of_one_tenant_leave_slots_to_another(
    small_gateway: GatewayUnderTest, threads: ThreadPoolExecutor
) -> None:
    waiting = hold_callers(small_gateway, threads, [ALICE, ALICE])

    refused = call(small_gateway, ALICE, 5)
    waiting += hold_callers(small_gateway, threads, [BOB], first=3)
    full = call(small_gateway, BOB, 6)

    for response, word in ((refused, "your requests"), (full, "Too many requests")):
        assert (response.status_code, response.json["error_type"]) == (429, "too_many_waiting")
        assert word in response.json["error"]
        assert int(response.headers["Retry-After"]) > 0
    with consume_messages(small_gateway, lambda job_id: run_job(small_gateway, job_id)):
        assert [one.result(timeout=60).status_code for one in waiting] == [200, 200, 200]
        assert call(small_gateway, ALICE, 7).status_code == 200


def hold_callers(
    gateway: GatewayUnderTest, threads: ThreadPoolExecutor, callers: list[dict[str, str]], *, first: int = 0
) -> "list[Future[Any]]":
    """Start synchronous requests, and return when all of them wait."""
    before = len(list_queued_ids(gateway))
    started = [threads.submit(call, gateway, headers, first + number) for number, headers in enumerate(callers)]
    wait_until(lambda: len(list_queued_ids(gateway)) == before + len(callers))
    return started


def test_a_wait_without_a_free_slot_is_answered_at_once_with_the_present_state(
    small_gateway: GatewayUnderTest, threads: ThreadPoolExecutor
) -> None:
    job_id = small_gateway.client.post("/v1/jobs", data=png(), headers=ALICE).json["id"]
    waiting = hold_callers(small_gateway, threads, [ALICE, ALICE])

    start = time.monotonic()
    polled = small_gateway.client.get(f"/v1/jobs/{job_id}?wait=20", headers=ALICE)
    preferred = small_gateway.client.post("/", data=png(), headers=ALICE | {"Prefer": "wait=20"})

    assert time.monotonic() - start < 5
    assert (polled.status_code, polled.json["state"]) == (200, "queued")
    assert int(polled.headers["Retry-After"]) > 0
    assert preferred.status_code == 202
    with consume_messages(small_gateway, lambda job_id: run_job(small_gateway, job_id)):
        assert [one.result(timeout=60).status_code for one in waiting] == [200, 200]


@pytest.mark.parametrize(("used", "is_delayed"), [(0, True), (1, False)])
def test_the_delay_of_a_503_takes_a_slot_too(storage_env: dict[str, str], used: int, is_delayed: bool) -> None:
    gateway = open_gateway(f"redis://127.0.0.1:{free_ports(1)[0]}/0", storage_env, max_waiting=1)
    slots = gateway.client.application.extensions[EXTENSION].slots

    with ExitStack() as stack:
        for _ in range(used):
            stack.enter_context(slots.occupy("public"))
        start = time.monotonic()
        response = gateway.client.post("/", data=png(), headers={"Prefer": "respond-async"})
        seconds = time.monotonic() - start

    assert (response.status_code, response.json["error_type"]) == (503, "store_unavailable")
    assert (seconds >= MIN_503_SECONDS) == is_delayed


def test_the_images_of_synchronous_requests_are_bounded(
    clean_redis: str, storage_env: dict[str, str], threads: ThreadPoolExecutor
) -> None:
    size = len(png(8, 8))
    gateway = open_gateway(
        clean_redis, storage_env, tokens=TOKENS, max_payload_bytes=3 * size, max_payload_bytes_per_tenant=2 * size
    )
    waiting = hold_callers(gateway, threads, [ALICE])

    refused = gateway.client.post("/", data=png(9, 9) + bytes(size // 2), headers=ALICE)

    assert (refused.status_code, refused.json["error_type"]) == (429, "payloads_full")
    assert "/v1/jobs" in refused.json["error"]
    with consume_messages(gateway, lambda job_id: run_job(gateway, job_id)):
        assert waiting[0].result(timeout=60).status_code == 200
        wait_until(lambda: call(gateway, ALICE, 1).status_code == 200)
