"""Quotas of a tenant, and its usage, on a real gateway."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from shared import redis_keys
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest, JobState
from shared.jobs.store import Claim, JobStore, QueueLimits
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.gateway import GatewayUnderTest, open_gateway
from tests.support.jobs import build_request, png
from tests.support.polling import wait_until

TOKENS = "alice:a-token,bob:b-token"
ALICE, BOB = {"Authorization": "Bearer a-token"}, {"Authorization": "Bearer b-token"}
PIXELS = 6 * 4


def test_pixels_of_a_day_are_bounded(clean_redis: str, storage_env: dict[str, str], new_bucket: str) -> None:
    env = {**storage_env, "MASKMILL_STORAGE_BUCKET": new_bucket}
    gateway = open_gateway(clean_redis, env, tokens=TOKENS, tenant_pixels_per_day=2 * PIXELS)

    answers = [gateway.client.post("/v1/jobs", data=png(), headers=ALICE) for _ in range(3)]

    assert [one.status_code for one in answers] == [202, 202, 429]
    assert answers[2].json["error_type"] == "quota_exceeded"
    assert "tomorrow" in answers[2].json["error"]
    assert 0 < int(answers[2].headers["Retry-After"]) <= 86400
    assert answers[2].headers["RateLimit-Policy"] == f'"fixed window";"pixels";q={2 * PIXELS};w=86400'
    assert gateway.client.post("/v1/jobs", data=png(), headers=BOB).status_code == 202
    # Nothing is kept of the refused one.
    wait_until(lambda: len(list(gateway.stores.bucket.list_objects("inbox/"))) == 3, seconds=10)


def test_a_synchronous_call_is_bounded_too(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, tenant_pixels_per_day=1)

    answer = gateway.client.post("/predict", data=png())

    assert (answer.status_code, answer.json["error_type"]) == (429, "quota_exceeded")


def test_bytes_of_waiting_jobs_are_bounded_until_a_job_ends(clean_redis: str, storage_env: dict[str, str]) -> None:
    image = png()
    gateway = open_gateway(clean_redis, storage_env, tenant_queued_bytes=2 * len(image))
    first, _, refused = (gateway.client.post("/v1/jobs", data=image) for _ in range(3))

    gateway.client.delete(f"/v1/jobs/{first.json['id']}")
    after = gateway.client.post("/v1/jobs", data=image)

    assert (refused.status_code, refused.json["error_type"]) == (429, "quota_exceeded")
    assert after.status_code == 202


def test_requests_a_second_are_bounded(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, tokens=TOKENS, tenant_requests_per_second=1)

    answers = [gateway.client.get("/v1/jobs", headers=ALICE) for _ in range(4)]

    assert [one.status_code for one in answers][:2] == [200, 200]
    assert answers[-1].status_code == 429
    assert answers[-1].json["error_type"] == "too_many_requests"
    assert gateway.client.get("/v1/jobs", headers=BOB).status_code == 200
    assert gateway.client.get("/healthz").status_code == 200


@pytest.fixture
def jobs(clean_redis: str) -> JobStore:
    return JobStore(connect(Settings(redis_url=clean_redis)), lease_seconds=60, max_attempts=3)


@pytest.mark.parametrize("end", ["finish", "finish twice", "discard", "purge"])
def test_a_job_is_taken_from_the_accounts_once(jobs: JobStore, clean_redis: str, end: str) -> None:
    request, other = build_request(), build_request()
    for one in (request, other):
        jobs.create(one, limits=QueueLimits(bytes_per_tenant=1000))

    _end(jobs, request, end)

    client = redis.Redis.from_url(clean_redis, decode_responses=True)
    assert client.hgetall(redis_keys.QUEUED_BYTES) == {"public": str(other.image.bytes)}
    _end(jobs, other, end)
    assert client.hgetall(redis_keys.QUEUED_BYTES) == {}


def test_an_image_that_was_only_named_counts_no_bytes_and_once_its_pixels(jobs: JobStore, clean_redis: str) -> None:
    request, facts = replace(build_request(), image=None), build_request().require_image()
    client = redis.Redis.from_url(clean_redis, decode_responses=True)
    jobs.create(request)
    claim = jobs.attempts.claim(request.model, worker="w")
    assert isinstance(claim, Claim)

    for _ in range(2):
        assert jobs.attempts.record_image(request.id, claim.attempt_name, facts)
    jobs.create(build_request())
    jobs.finish(jobs.get(request.id).request, JobState.SUCCEEDED)

    other = build_request().require_image()
    assert client.hgetall(redis_keys.QUEUED_BYTES) == {"public": str(other.bytes)}
    (usage,) = client.scan_iter(match=f"{redis_keys.USAGE_PREFIX}*")
    assert int(client.hget(usage, "pixels") or 0) == facts.width * facts.height + other.width * other.height


@pytest.mark.parametrize("end", ["discard", "purge", "finish"])
def test_a_job_whose_image_was_never_read_ends(jobs: JobStore, clean_redis: str, end: str) -> None:
    request = replace(build_request(), image=None)
    jobs.create(request)

    _end(jobs, request, end)

    client = redis.Redis.from_url(clean_redis, decode_responses=True)
    assert client.exists(redis_keys.QUEUED_BYTES) == 0
    assert client.zcard(redis_keys.unfinished_jobs(job_queue(request), "public")) == 0


def _end(jobs: JobStore, request: JobRequest, end: str) -> None:
    match end:
        case "discard":
            jobs.discard(request)
        case "purge":
            jobs.purge(request.id)
        case _:
            for _ in range(2 if end == "finish twice" else 1):
                jobs.finish(request, JobState.SUCCEEDED, timings_ms={"device": 12.6})


def test_usage_tells_jobs_pixels_and_device_time_of_a_day(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, tokens=TOKENS)
    done, canceled = (gateway.client.post("/v1/jobs", data=png(), headers=ALICE).json["id"] for _ in range(2))
    gateway.stores.jobs.finish(gateway.stores.jobs.get(done).request, JobState.SUCCEEDED, timings_ms={"device": 12.6})
    gateway.client.delete(f"/v1/jobs/{canceled}", headers=ALICE)

    today = show_usage(gateway, ALICE)["days"][-1]

    counts = {"submitted": 2, "succeeded": 1, "failed": 0, "canceled": 1, "expired": 0}
    assert today == {"date": find_today(gateway), **counts, "pixels": 2 * PIXELS, "device_ms": 13}
    assert show_usage(gateway, BOB)["days"][-1]["submitted"] == 0


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ("", 30),
        ("?from=2020-01-01", 100),
        ("?from=2020-01-01&to=2020-01-03", 3),
        ("?to=2020-01-03", 30),
        ("?to=0001-01-03", 3),
        ("?from=0001-01-01&to=0001-02-01", 32),
    ],
)
def test_usage_is_shown_for_a_range_of_days(
    clean_redis: str, storage_env: dict[str, str], query: str, days: int
) -> None:
    gateway = open_gateway(clean_redis, storage_env)

    assert len(gateway.client.get(f"/v1/usage{query}").json["days"]) == days


@pytest.mark.parametrize(
    "query", ["?from=yesterday", "?days=3", "?from=2020-01-03&to=2020-01-01", "?to=0", "?to=1600000000"]
)
def test_a_wrong_range_is_refused(clean_redis: str, storage_env: dict[str, str], query: str) -> None:
    assert open_gateway(clean_redis, storage_env).client.get(f"/v1/usage{query}").status_code == 400


def show_usage(gateway: GatewayUnderTest, headers: Mapping[str, str]) -> Any:
    return gateway.client.get("/v1/usage", headers=headers).json


def find_today(gateway: GatewayUnderTest) -> str:
    return datetime.fromtimestamp(gateway.stores.jobs.clock.now(), UTC).date().isoformat()
