"""A file of a result that was overwritten is never served, and one that only has another ETag is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared import redis_keys
from shared.formats.registry import get_format
from shared.jobs.completion import read_result
from shared.jobs.result import JobResult
from shared.redis_client import connect
from shared.storage.keys import object_key, result_key
from tests.support.gateway import GatewayUnderTest, run_job
from tests.support.jobs import png
from tests.support.polling import wait_until

FILES = {"labels.png": "labels", "masks.zip": "masks", "masks/1.png": "masks", "overlay.png": "overlay"}


@pytest.fixture
def job_id(gateway: GatewayUnderTest) -> str:
    """A job that succeeded."""
    submitted: str = gateway.client.post("/v1/jobs?formats=labels,masks,overlay", data=png()).json["id"]
    run_job(gateway, submitted)
    return submitted


def read_final(gateway: GatewayUnderTest, job_id: str) -> JobResult:
    result = read_result(job_id, bucket=gateway.stores.bucket)
    assert result is not None
    return result


def overwrite(gateway: GatewayUnderTest, job_id: str, name: str) -> None:
    """Store other bytes in the place of a file, as a stalled PUT would."""
    key = object_key(job_id, read_final(gateway, job_id).attempt_name, get_format(name).file)
    content = gateway.stores.bucket.get(key)
    gateway.stores.bucket.put(key, content[::-1], content_type="image/png")


@pytest.mark.parametrize("path", FILES)
def test_an_overwritten_file_is_an_error(gateway: GatewayUnderTest, job_id: str, path: str) -> None:
    whole = gateway.client.get(f"/v1/jobs/{job_id}/{path}")
    overwrite(gateway, job_id, FILES[path])

    refused = gateway.client.get(f"/v1/jobs/{job_id}/{path}")

    assert whole.status_code == 200
    assert (refused.status_code, refused.json["error_type"]) == (500, "result_overwritten")
    assert "submit the image again" in refused.json["error"]
    assert "Cache-Control" not in refused.headers


@pytest.mark.parametrize("path", FILES)
def test_a_file_with_another_etag_and_the_same_content_is_served(
    gateway: GatewayUnderTest, job_id: str, path: str
) -> None:
    before = gateway.client.get(f"/v1/jobs/{job_id}/{path}").data
    result = read_final(gateway, job_id)
    # As after a copy to another bucket.
    objects = {name: replace(stored, etag='"other"') for name, stored in result.objects.items()}
    copied = replace(result, objects=objects).to_json()
    gateway.stores.bucket.put(result_key(job_id), copied, content_type="application/json")

    served = gateway.client.get(f"/v1/jobs/{job_id}/{path}")

    assert (served.status_code, served.data) == (200, before)


def test_an_overwritten_result_is_not_reused_by_a_synchronous_call(gateway_with_worker: GatewayUnderTest) -> None:
    first = gateway_with_worker.client.post("/", data=png())
    job_id = first.headers["x-maskmill-job-id"]
    # The reply is sent before the result is stored.
    wait_until(lambda: read_result(job_id, bucket=gateway_with_worker.stores.bucket), "the result")
    overwrite(gateway_with_worker, job_id, "masks")
    connect(gateway_with_worker.settings).delete(redis_keys.reply_payload(job_id))

    second = gateway_with_worker.client.post("/", data=png())

    assert (second.status_code, second.headers["x-maskmill-cache"]) == (200, "miss")
    assert second.headers["x-maskmill-job-id"] != job_id
    assert second.data == first.data
