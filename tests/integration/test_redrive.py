"""Redrive: jobs that ended without a result run again as new jobs, while their images are kept."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import redis
from werkzeug.test import TestResponse

from shared.errors import AttemptsExhausted, DeadlineExceeded, EngineFailed, MaskmillError, StoreUnavailable
from shared.jobs.completion import complete_job
from shared.jobs.inputs import InputMover
from shared.jobs.model import Failure, JobRequest, JobState, Priority
from shared.jobs.result import JobResult, failed_result
from shared.storage.keys import dead_letter_key, inbox_key, input_key
from tests.support.gateway import (
    GatewayUnderTest,
    list_queued_ids,
    open_gateway,
    open_gateway_with_stores,
    run_job,
)
from tests.support.jobs import build_request, build_sync_request, png
from tests.support.steward import build_steward
from tests.support.two_tenants import LAB, SHOP, create_job, open_two_tenant_gateway


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    return open_two_tenant_gateway(clean_redis, storage_env)


def create(gateway: GatewayUnderTest, **changes: Any) -> JobRequest:
    return create_job(gateway, **{"metadata": {"order": 7}, **changes})


def end(gateway: GatewayUnderTest, result: JobResult, *, input_ttl_seconds: int = 3600) -> None:
    bucket = gateway.stores.bucket
    complete_job(result, jobs=gateway.stores.jobs, bucket=bucket, inputs=InputMover(bucket, input_ttl_seconds))


def fail(gateway: GatewayUnderTest, request: JobRequest, error: MaskmillError, **options: Any) -> None:
    end(gateway, failed_result(request, error), **options)


def redrive(gateway: GatewayUnderTest, job_id: str, headers: dict[str, str] = SHOP) -> TestResponse:
    return gateway.client.post(f"/v1/jobs/{job_id}/redrive", headers=headers)


def test_a_dead_letter_is_found_and_runs_again(gateway: GatewayUnderTest) -> None:
    request = create(gateway, deadline_at=build_request().created_at + 100)
    fail(gateway, request, AttemptsExhausted("3 workers were lost"))
    query = "state=failed&error_type=attempts_exhausted"
    (dead,) = gateway.client.get(f"/v1/jobs?{query}", headers=SHOP).json["jobs"]

    answer = redrive(gateway, dead["id"])
    run_job(gateway, answer.json["id"])

    assert answer.status_code == 202
    assert (answer.json["redrive_of"], answer.json["state"]) == (request.id, "queued")
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"
    new = gateway.stores.jobs.get(answer.json["id"])
    assert new.state is JobState.SUCCEEDED
    assert new.request.deadline_at is not None and request.deadline_at is not None
    lifetimes = [job.deadline_at - job.created_at for job in (new.request, request) if job.deadline_at]
    assert lifetimes[0] == pytest.approx(lifetimes[1])
    kept = ("parameters", "formats", "metadata", "image", "model", "priority", "tenant")
    assert [getattr(new.request, name) for name in kept] == [getattr(request, name) for name in kept]
    # The dead letter stays as it is.
    assert gateway.stores.jobs.get(request.id).state is JobState.FAILED
    assert gateway.stores.bucket.get(dead_letter_key(request.id)) == png()


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.EXPIRED])
def test_jobs_without_a_result_run_again(gateway: GatewayUnderTest, state: JobState) -> None:
    request = create(gateway)
    end(gateway, JobResult(request, state, failure=Failure(DeadlineExceeded.code, "too late")))

    answer = redrive(gateway, request.id)

    assert answer.status_code == 202
    assert list_queued_ids(gateway) == [answer.json["id"]]
    assert gateway.stores.bucket.get(inbox_key(answer.json["id"])) == png()


def test_a_repeated_redrive_is_the_same_job(gateway: GatewayUnderTest) -> None:
    request = create(gateway)
    fail(gateway, request, EngineFailed("a bug"))

    ids = {redrive(gateway, request.id).json["id"] for _ in range(3)}
    run_job(gateway, *ids)

    assert len(ids) == 1
    assert redrive(gateway, request.id).json["id"] in ids
    assert redrive(gateway, *ids).status_code == 409


def test_a_token_redrives_what_it_may_submit(clean_redis: str, storage_env: dict[str, str], tmp_path: Path) -> None:
    digests = {name: sha256(name.encode()).hexdigest() for name in ("batch", "other")}
    tokens = tmp_path / "tokens"
    tokens.write_text(f"shop:{digests['batch']} max_priority=low\nshop:{digests['other']} models=acme/one\n")
    gateway = open_gateway(clean_redis, storage_env, tokens_file=str(tokens))
    request = create(gateway, priority=Priority.INTERACTIVE)
    fail(gateway, request, EngineFailed("no memory"))

    refused, limited = (
        redrive(gateway, request.id, {"Authorization": f"Bearer {name}"}) for name in ("other", "batch")
    )

    assert (refused.status_code, refused.json["error_type"]) == (403, "not_permitted")
    assert (limited.status_code, limited.json["priority"]) == (202, "low")


def test_a_redrive_whose_job_was_purged_makes_another_one(gateway: GatewayUnderTest) -> None:
    request = create(gateway)
    fail(gateway, request, EngineFailed("a bug"))
    first = redrive(gateway, request.id).json["id"]
    gateway.client.delete(f"/v1/jobs/{first}?purge=1", headers=SHOP)

    second = redrive(gateway, request.id).json["id"]

    assert second != first
    assert list_queued_ids(gateway) == [second]


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_a_job_that_has_not_ended_or_has_a_result_is_a_409(gateway: GatewayUnderTest, state: str) -> None:
    request = create(gateway)
    if state == "running":
        gateway.stores.jobs.attempts.claim(request.model, worker="w")
    if state == "succeeded":
        run_job(gateway, request.id)

    answer = redrive(gateway, request.id)

    assert (answer.status_code, answer.json["state"]) == (409, state)


@pytest.mark.parametrize("end_of_input", ["canceled", "deleted", "synchronous"])
def test_a_job_whose_image_is_gone_is_a_410_with_the_date(gateway: GatewayUnderTest, end_of_input: str) -> None:
    if end_of_input == "synchronous":
        request = build_sync_request(tenant="shop")
        gateway.stores.jobs.create(request)
        fail(gateway, request, EngineFailed("a bug"))
    else:
        request = create(gateway)
        if end_of_input == "canceled":
            gateway.client.delete(f"/v1/jobs/{request.id}", headers=SHOP)
        else:
            fail(gateway, request, EngineFailed("a bug"), input_ttl_seconds=0)

    answer = redrive(gateway, request.id)

    assert (answer.status_code, answer.json["error_type"]) == (410, "gone")
    assert "not kept" in answer.json["error"]
    assert ("kept_until" in answer.json) == (end_of_input != "synchronous")


def test_a_job_of_another_tenant_is_unknown(gateway: GatewayUnderTest) -> None:
    request = create(gateway)
    fail(gateway, request, EngineFailed("a bug"))

    assert redrive(gateway, request.id, LAB).status_code == 404
    assert redrive(gateway, "0" * 32).status_code == 404


def test_a_redriven_job_outlives_the_loss_of_redis(gateway: GatewayUnderTest, redis_client: redis.Redis) -> None:
    request = create(gateway)
    fail(gateway, request, EngineFailed("a bug"))
    new = redrive(gateway, request.id).json["id"]
    redis_client.flushall()

    stores = gateway.stores
    build_steward(gateway.settings, stores.jobs, stores.bucket).recovery.recover_jobs()

    # Other tests have left inputs.
    assert new in list_queued_ids(gateway)
    # Also its key was recovered, and the old job is known by its result.
    assert redrive(gateway, request.id).json["id"] == new


def test_a_redrive_that_fails_half_way_leaves_nothing(gateway: GatewayUnderTest) -> None:
    request = create(gateway)
    fail(gateway, request, EngineFailed("a bug"))

    class FailingJobs:
        def __getattr__(self, name: str) -> Any:
            return getattr(gateway.stores.jobs, name)

        def create(self, *_: Any, **__: Any) -> Any:
            raise StoreUnavailable("Redis did not answer")

    broken = open_gateway_with_stores(gateway.settings, replace(gateway.stores, jobs=FailingJobs()))  # type: ignore[arg-type]

    assert redrive(broken, request.id).status_code == 503
    assert gateway.stores.jobs.get(request.id).state is JobState.FAILED
    assert gateway.stores.bucket.get(input_key(request.id)) == png()
    assert redrive(gateway, request.id).status_code == 202
