"""Requests that are larger than the metadata of an object: stored apart, read alike, and deleted with their inputs."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest
import redis

from shared.jobs import request_record
from shared.jobs.request_record import MAX_METADATA_BYTES, read_request, store_input
from shared.storage.bucket import Bucket
from shared.storage.keys import REQUESTS_PREFIX, inbox_key, request_key
from tests.support.gateway import GatewayUnderTest, open_gateway, run_job
from tests.support.jobs import build_request, png
from tests.support.steward import Steward, build_steward
from worker.steward import retention

# 4 KiB in UTF-8; in ASCII three times as long.
METADATA = {"note": "\u00fc" * 2042}
SMALL = {"note": "x"}


@pytest.fixture
def gateway(clean_redis: str, storage_env: Mapping[str, str], new_bucket: str) -> GatewayUnderTest:
    return open_gateway(clean_redis, {**storage_env, "MASKMILL_STORAGE_BUCKET": new_bucket})


def submit(gateway: GatewayUnderTest, metadata: Mapping[str, Any] = METADATA) -> str:
    inputs = base64.b64encode(png()).decode()
    response = gateway.client.post("/v1/jobs", json={"inputs": inputs, "metadata": metadata})
    assert response.status_code == 202, response.json
    return str(response.json["id"])


def open_steward(gateway: GatewayUnderTest) -> Steward:
    return build_steward(gateway.settings, gateway.stores.jobs, gateway.stores.bucket)


def list_requests(bucket: Bucket) -> list[str]:
    return [found.key for found in bucket.list_objects(REQUESTS_PREFIX)]


def test_a_large_request_outlives_redis(gateway: GatewayUnderTest, redis_client: "redis.Redis") -> None:
    job_id = submit(gateway)
    request = gateway.stores.jobs.get(job_id).request
    redis_client.flushall()
    lost = gateway.client.get(f"/v1/jobs/{job_id}").json

    open_steward(gateway).recovery.recover_jobs()

    assert gateway.stores.jobs.get(job_id).request == request
    assert (lost["state"], lost["metadata"]) == ("queued", METADATA)
    run_job(gateway, job_id)
    assert gateway.client.get(f"/v1/jobs/{job_id}").json["state"] == "succeeded"


def test_only_a_large_request_is_stored_apart(gateway: GatewayUnderTest) -> None:
    submit(gateway, SMALL)
    job_id = submit(gateway)

    assert list_requests(gateway.stores.bucket) == [request_key(job_id)]
    assert len(gateway.stores.bucket.get_metadata(inbox_key(job_id))["request"]) < 10


@pytest.mark.parametrize("end", ["run", "cancel", "purge"])
def test_a_large_request_is_deleted_with_its_input(gateway: GatewayUnderTest, end: str) -> None:
    job_id = submit(gateway)

    if end == "run":
        run_job(gateway, job_id)
    else:
        gateway.client.delete(f"/v1/jobs/{job_id}", query_string={"purge": 1} if end == "purge" else {})

    assert list_requests(gateway.stores.bucket) == []
    if end == "run":
        assert gateway.client.get(f"/v1/jobs/{job_id}").json["metadata"] == METADATA


@pytest.mark.parametrize("size", [0, 1])
def test_the_largest_request_in_the_metadata_is_read_as_the_next_larger_one(
    gateway: GatewayUnderTest, size: int
) -> None:
    bucket, request = gateway.stores.bucket, build_request(metadata={"a": ""})
    room = MAX_METADATA_BYTES - len(request.to_json())
    request = build_request(id=request.id, created_at=request.created_at, metadata={"a": "x" * (room + size)})
    assert len(request.to_json()) == MAX_METADATA_BYTES + size

    store_input(request, png(), bucket=bucket)

    assert read_request(request.id, bucket=bucket) == request
    assert len(list_requests(bucket)) == size


def test_a_request_whose_input_was_never_stored_is_deleted(
    gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ORPHANED_REQUEST_SECONDS", -10.0)
    kept, orphaned = submit(gateway), build_request(metadata=METADATA)
    gateway.stores.bucket.put(request_key(orphaned.id), b"{}", content_type="application/json")

    open_steward(gateway).retention.delete_hidden()

    assert list_requests(gateway.stores.bucket) == [request_key(kept)]
    assert request_record.read_request(kept, bucket=gateway.stores.bucket).metadata == METADATA
