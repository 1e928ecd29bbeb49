"""What a known job has no longer is a 410 with the date until which it was kept; what is unknown is a 404."""

import re

import pytest

from shared import redis_keys
from shared.redis_client import connect
from shared.rfc3339 import format_timestamp, parse_timestamp
from shared.storage.keys import object_key, result_key
from tests.support.gateway import GatewayUnderTest, run_job
from tests.support.jobs import png

PATHS = ["labels.png", "masks.zip", "masks/1.png", "overlay.png"]


def run(gateway: GatewayUnderTest) -> str:
    job_id = str(gateway.client.post("/v1/jobs", data=png()).json["id"])
    run_job(gateway, job_id)
    return job_id


@pytest.mark.parametrize("path", [*PATHS, "result"])
def test_an_object_that_is_gone_is_a_410_with_the_end_of_the_job(gateway: GatewayUnderTest, path: str) -> None:
    job_id = run(gateway)
    job, bucket = gateway.stores.jobs.get(job_id), gateway.stores.bucket
    files = [object_key(job_id, job.attempt_name, name) for name in PATHS]
    bucket.delete([result_key(job_id)] if path == "result" else files)

    answer = gateway.client.get(f"/v1/jobs/{job_id}/{path}")

    expires_at = gateway.client.get(f"/v1/jobs/{job_id}").json["expires_at"]
    assert (answer.status_code, answer.json["error_type"], answer.json["kept_until"]) == (410, "gone", expires_at)
    assert re.search(rf"not stored any more\. It was kept until {expires_at}\.$", answer.json["error"])
    assert job.ended_at is not None
    assert expires_at == format_timestamp(job.ended_at + gateway.settings.result_ttl_seconds)


def test_the_date_is_known_without_a_record(gateway: GatewayUnderTest) -> None:
    job_id = run(gateway)
    job = gateway.stores.jobs.get(job_id)
    gateway.stores.bucket.delete([object_key(job_id, job.attempt_name, "labels.png")])
    connect(gateway.settings).delete(redis_keys.job(job_id))

    shown = gateway.client.get(f"/v1/jobs/{job_id}").json
    answer = gateway.client.get(f"/v1/jobs/{job_id}/labels.png")

    assert (answer.status_code, answer.json["kept_until"]) == (410, shown["expires_at"])
    # By the clock of the object store, which tells seconds.
    assert job.ended_at is not None
    assert parse_timestamp(shown["ended_at"]) == pytest.approx(job.ended_at, abs=3)


def test_a_job_without_record_and_objects_is_unknown(gateway: GatewayUnderTest) -> None:
    job_id = run(gateway)
    gateway.stores.bucket.delete([result_key(job_id)])
    connect(gateway.settings).delete(redis_keys.job(job_id))

    for path in ("", "/result", "/labels.png", "/input"):
        answer = gateway.client.get(f"/v1/jobs/{job_id}{path}")
        assert (answer.status_code, answer.json["error_type"]) == (404, "unknown_job")
