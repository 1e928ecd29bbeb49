"""Images in buckets that the operator has listed, named as s3://bucket/key."""

from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.support.gateway import GatewayUnderTest, open_gateway, run_job
from tests.support.jobs import png

PHOTO = png(40, 30)
KEY = "2026/a photo+\u00fc.png"


@pytest.fixture
def photos(make_bucket: Callable[[], str], s3_client: Any) -> str:
    """A bucket with a photo."""
    name = make_bucket()
    s3_client.put_object(Bucket=name, Key=KEY, Body=PHOTO)
    return name


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str], photos: str) -> GatewayUnderTest:
    return open_gateway(
        clean_redis,
        storage_env,
        input_buckets=f"other-bucket, {photos}",
        storage_prefix="team",
        max_upload_bytes=50_000,
    )


def submit(gateway: GatewayUnderTest, address: str) -> TestResponse:
    return gateway.client.post("/v1/jobs", json={"inputs": address})


def test_an_object_is_copied_and_the_job_does_not_depend_on_it(
    gateway: GatewayUnderTest, photos: str, s3_client: Any
) -> None:
    job = submit(gateway, f"s3://{photos}/{KEY}").json
    s3_client.delete_object(Bucket=photos, Key=KEY)
    run_job(gateway, job["id"])

    view = gateway.client.get(f"/v1/jobs/{job['id']}").json
    assert (view["state"], view["image"]["width"], view["image"]["bytes"]) == ("succeeded", 40, len(PHOTO))
    assert gateway.client.get(f"/v1/jobs/{job['id']}/input").data == PHOTO


def test_a_bucket_that_is_not_listed_is_refused_whether_it_exists_or_not(
    gateway: GatewayUnderTest, make_bucket: Callable[[], str], s3_client: Any
) -> None:
    name = make_bucket()
    s3_client.put_object(Bucket=name, Key=KEY, Body=PHOTO)

    answers = [submit(gateway, f"s3://{bucket}/{KEY}") for bucket in (name, "no-such-bucket")]
    own = submit(gateway, f"s3://{gateway.settings.storage_bucket}/team/inbox/{'0' * 32}")

    assert {response.status_code for response in (*answers, own)} == {422}
    assert {response.json["error_type"] for response in (*answers, own)} == {"forbidden_input"}
    assert len({response.json["error"] for response in answers}) == 1


def test_a_key_does_not_lead_out_of_its_bucket(gateway: GatewayUnderTest, photos: str) -> None:
    own = gateway.settings.storage_bucket
    job = gateway.client.post("/v1/jobs", data=PHOTO).json

    for key in (f"../{own}/team/inbox/{job['id']}", f"2026/../../{own}/team/inbox/{job['id']}", "2026/./a", ".."):
        response = submit(gateway, f"s3://{photos}/{key}")
        assert (response.status_code, response.json["error_type"]) == (422, "forbidden_input")
    for key in (f"..%2F{own}/team/inbox/{job['id']}", f"%2e%2e/{own}/team/inbox/{job['id']}"):
        assert submit(gateway, f"s3://{photos}/{key}").json["error_type"] == "input_not_found"


def test_a_missing_object_is_a_422(gateway: GatewayUnderTest, photos: str) -> None:
    for address in (f"s3://{photos}/absent.png", "s3://other-bucket/absent.png"):
        response = submit(gateway, address)
        assert (response.status_code, response.json["error_type"]) == (422, "input_not_found")


def test_an_object_that_is_too_large_is_a_413(gateway: GatewayUnderTest, photos: str, s3_client: Any) -> None:
    s3_client.put_object(Bucket=photos, Key="large", Body=bytes(50_001))

    response = submit(gateway, f"s3://{photos}/large")

    assert (response.status_code, response.json["error_type"]) == (413, "body_too_large")


@pytest.mark.parametrize("address", ["s3://", "s3:///key", "s3://Bad_Bucket/key", "s3://photos/", "s3://a@b/key"])
def test_an_address_without_a_bucket_or_a_key_is_a_422(gateway: GatewayUnderTest, address: str) -> None:
    assert submit(gateway, address).json["error_type"] == "forbidden_input"
