"""Uploads: a file is sent once, to the object store or through the gateway, and jobs name it."""

from io import BytesIO
from typing import Any

import pytest
import redis
import requests
from prometheus_client import CollectorRegistry
from werkzeug.test import TestResponse

from shared import redis_keys
from shared.jobs.ids import new_job_id
from shared.jobs.survey import JobSurvey
from shared.redis_client import connect
from shared.storage.clock import StoreClock
from shared.storage.keys import inbox_key, uploads_prefix
from tests.support.gateway import GatewayUnderTest, open_gateway, run_job
from tests.support.jobs import png
from tests.support.steward import follow_store
from worker.steward.metrics import StewardMetrics
from worker.steward.retention import Retention

SHOP, LAB = {"Authorization": "Bearer s3cret"}, {"Authorization": "Bearer 0ther"}
PHOTO = png(40, 30)


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    """A gateway through which clients upload."""
    return open_gateway(clean_redis, storage_env, tokens="shop:s3cret,lab:0ther", max_upload_bytes=100_000)


@pytest.fixture
def signing_gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    """A gateway whose clients reach the object store."""
    endpoint = storage_env["MASKMILL_STORAGE_ENDPOINT"]
    return open_gateway(
        clean_redis,
        storage_env,
        tokens="shop:s3cret,lab:0ther",
        storage_public_endpoint=endpoint,
        storage_prefix="a/prefix",
        max_upload_bytes=100_000,
    )


def create(gateway: GatewayUnderTest, **asked: Any) -> dict[str, Any]:
    response = gateway.client.post("/v1/uploads", json=asked, headers=SHOP)
    assert response.status_code == 201, response.text
    return dict(response.json)


def send(upload: dict[str, Any], content: bytes, **fields: str) -> requests.Response:
    """Send the form of an upload, as a browser would, without a token."""
    session = requests.Session()
    session.trust_env = False
    with session:
        return session.post(upload["url"], data={**upload["fields"], **fields}, files={"file": ("photo", content)})


def upload_through(gateway: GatewayUnderTest, content: bytes = PHOTO, headers: dict[str, str] = SHOP) -> str:
    upload = create(gateway)
    response = gateway.client.put(upload["url"], data=content, headers={**upload["headers"], **headers})
    assert response.status_code == 204, response.text
    return str(upload["upload_id"])


def submit(gateway: GatewayUnderTest, headers: dict[str, str] = SHOP, **members: Any) -> TestResponse:
    return gateway.client.post("/v1/jobs", json=members, headers=headers)


def test_a_file_is_uploaded_to_the_object_store_and_used_by_two_jobs(signing_gateway: GatewayUnderTest) -> None:
    gateway = signing_gateway
    upload = create(gateway, content_type="image/png")

    assert upload["method"] == "POST"
    assert send(upload, PHOTO).status_code == 204
    jobs = [submit(gateway, upload_id=upload["upload_id"], parameters={"threshold": 0.4}).json for _ in range(2)]
    for job in jobs:
        assert job["image"] is None
        run_job(gateway, job["id"])

    for job in jobs:
        view = gateway.client.get(f"/v1/jobs/{job['id']}", headers=SHOP).json
        assert (view["state"], view["image"]["width"], view["image"]["height"]) == ("succeeded", 40, 30)
        result = gateway.client.get(f"/v1/jobs/{job['id']}/result", headers=SHOP).json
        assert result["image"] == view["image"]
        kept = gateway.client.get(f"/v1/jobs/{job['id']}/input", headers=SHOP)
        assert (kept.data, kept.content_type) == (PHOTO, "image/png")


def test_a_form_takes_no_larger_file_and_no_other_type(signing_gateway: GatewayUnderTest) -> None:
    upload = create(signing_gateway, bytes=len(PHOTO), content_type="image/png")

    assert send(upload, PHOTO + b"x").status_code == 400
    assert send(upload, PHOTO, **{"Content-Type": "text/html"}).status_code == 403
    assert send(upload, PHOTO, key="inbox/other").status_code == 403
    assert submit(signing_gateway, upload_id=upload["upload_id"]).json["error_type"] == "unknown_upload"
    assert send(upload, PHOTO).status_code == 204
    assert submit(signing_gateway, upload_id=upload["upload_id"]).status_code == 202


def test_without_a_public_endpoint_a_file_is_uploaded_through_the_gateway(gateway: GatewayUnderTest) -> None:
    upload_id = upload_through(gateway)

    job = submit(gateway, upload_id=upload_id).json
    gateway.stores.bucket.delete(found.key for found in gateway.stores.bucket.list_objects(uploads_prefix("shop")))
    run_job(gateway, job["id"])

    assert gateway.client.get(f"/v1/jobs/{job['id']}", headers=SHOP).json["state"] == "succeeded"


def test_a_form_field_names_an_upload(gateway: GatewayUnderTest) -> None:
    response = gateway.client.post("/v1/jobs", data={"upload_id": upload_through(gateway)}, headers=SHOP)

    assert response.status_code == 202


def test_the_upload_of_another_tenant_is_unknown(gateway: GatewayUnderTest) -> None:
    upload_id = upload_through(gateway)

    assert submit(gateway, headers=LAB, upload_id=upload_id).status_code == 404
    response = gateway.client.put(f"/v1/uploads/{upload_id}", data=png(9, 9), headers=LAB)
    job = submit(gateway, upload_id=upload_id).json

    # It is one of its own, which takes nothing from the other tenant.
    assert response.status_code == 204
    assert gateway.stores.bucket.get(inbox_key(job["id"])) == PHOTO


def test_a_repeated_submission_gets_its_job_though_the_upload_is_gone(gateway: GatewayUnderTest) -> None:
    upload_id = upload_through(gateway)
    headers = {**SHOP, "Idempotency-Key": upload_id}
    job = submit(gateway, headers, upload_id=upload_id).json
    bucket = gateway.stores.bucket
    bucket.delete(found.key for found in bucket.list_objects(uploads_prefix("shop")))

    assert submit(gateway, headers, upload_id=upload_id).json["id"] == job["id"]
    assert submit(gateway, headers, upload_id=upload_id, parameters={"threshold": 0.4}).status_code == 422
    assert submit(gateway, upload_id=upload_id).status_code == 404


@pytest.mark.parametrize(
    "upload_id", ["", "0" * 32, "../inbox/x", "f" * 32, "z" * 100, "00e8d4a5100070008000000000000000"]
)
def test_an_unknown_id_is_a_404(gateway: GatewayUnderTest, upload_id: str) -> None:
    response = submit(gateway, upload_id=upload_id)

    assert response.status_code == (404 if upload_id else 400)
    if upload_id and "/" not in upload_id:
        assert gateway.client.put(f"/v1/uploads/{upload_id}", data=PHOTO, headers=SHOP).status_code == 404


def test_a_tenant_has_a_bounded_number_of_uploads(
    clean_redis: str, storage_env: dict[str, str], redis_client: redis.Redis
) -> None:
    gateway = open_gateway(
        clean_redis, storage_env, tokens="shop:s3cret,lab:0ther", tenant_uploads=2, upload_ttl_seconds=60
    )
    first = create(gateway)
    create(gateway)

    refused = gateway.client.post("/v1/uploads", json={}, headers=SHOP)
    of_its_own = gateway.client.put(
        f"/v1/uploads/{new_job_id(gateway.stores.jobs.clock.now())}", data=PHOTO, headers=SHOP
    )

    assert (refused.status_code, refused.json["error_type"]) == (429, "quota_exceeded")
    assert "2 uploads of this tenant have not expired" in refused.json["error"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit-Policy"] == '"fixed window";"uploads";q=2;w=60'
    # An id that no gateway has given out is no way around.
    assert of_its_own.status_code == 429
    # The file of an upload that counts already, and uploads of others, are accepted.
    assert gateway.client.put(first["url"], data=PHOTO, headers=SHOP).status_code == 204
    assert gateway.client.post("/v1/uploads", json={}, headers=LAB).status_code == 201
    assert gateway.client.post("/v1/uploads", json={}, headers=SHOP).status_code == 429
    # As if the first had expired a second ago.
    redis_client.zadd(redis_keys.uploads("shop"), {first["upload_id"]: gateway.stores.jobs.clock.now() - 1})
    assert gateway.client.post("/v1/uploads", json={}, headers=SHOP).status_code == 201
    assert redis_client.hget(redis_keys.upload_bytes("shop"), first["upload_id"]) is None


def test_the_bytes_of_the_uploads_of_a_tenant_are_bounded(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(
        clean_redis, storage_env, tokens="shop:s3cret", max_upload_bytes=100_000, tenant_upload_bytes=len(PHOTO) + 50
    )
    small = create(gateway, bytes=50)

    undeclared = gateway.client.post("/v1/uploads", json={}, headers=SHOP)
    second = create(gateway, bytes=len(PHOTO))
    larger = gateway.client.put(small["url"], data=PHOTO, headers=SHOP)

    assert (undeclared.status_code, undeclared.json["error_type"]) == (429, "quota_exceeded")
    assert f"uploads of {len(PHOTO) + 50} bytes in all" in undeclared.json["error"]
    assert larger.status_code == 429
    assert gateway.client.put(second["url"], data=PHOTO, headers=SHOP).status_code == 204


def test_an_expired_upload_is_unknown_and_deleted(
    clean_redis: str, storage_env: dict[str, str], new_bucket: str
) -> None:
    gateway = open_gateway(
        clean_redis, {**storage_env, "MASKMILL_STORAGE_BUCKET": new_bucket}, tokens="shop:s3cret", upload_ttl_seconds=60
    )
    old = new_job_id(gateway.stores.jobs.clock.now() - 61)
    upload_id = upload_through(gateway)
    bucket, clock = gateway.stores.bucket, follow_store(gateway.stores.bucket)

    assert submit(gateway, upload_id=old).json["error_type"] == "unknown_upload"
    assert submit(gateway, upload_id=upload_id).status_code == 202
    delete_uploads(gateway, clock, ttl_seconds=60)
    assert len(list(bucket.list_objects("uploads/"))) == 1
    delete_uploads(gateway, clock, ttl_seconds=-60)
    assert list(bucket.list_objects("uploads/")) == []


def delete_uploads(gateway: GatewayUnderTest, clock: StoreClock, *, ttl_seconds: int) -> None:
    survey, metrics = JobSurvey(connect(gateway.settings)), StewardMetrics(CollectorRegistry())
    Retention(survey, gateway.stores.bucket, metrics, clock, 3600, 3600, ttl_seconds, 3600).delete_expired()


def test_what_is_no_image_is_refused_by_the_gateway(gateway: GatewayUnderTest) -> None:
    url = create(gateway)["url"]

    for content, status in ((b"no image", 400), (b"", 400), (bytes(100_001), 413)):
        assert gateway.client.put(url, data=content, headers=SHOP).status_code == status


def test_what_is_no_image_fails_the_job_where_the_object_store_took_it(signing_gateway: GatewayUnderTest) -> None:
    upload = create(signing_gateway)
    send(upload, b"<html>secret</html>")

    job = submit(signing_gateway, upload_id=upload["upload_id"]).json
    run_job(signing_gateway, job["id"])
    view = signing_gateway.client.get(f"/v1/jobs/{job['id']}", headers=SHOP).json

    assert (view["state"], view["error_type"], view["image"]) == ("failed", "not_an_image", None)
    assert "secret" not in view["error"]
    kept = signing_gateway.client.get(f"/v1/jobs/{job['id']}/input", headers=SHOP)
    assert kept.content_type == "application/octet-stream"


@pytest.mark.parametrize(
    "body", ['{"bytes": 0}', '{"bytes": "1"}', '{"content_type": "text/html"}', '{"size": 1}', "[]", "{", "1"]
)
def test_a_wrong_request_for_an_upload_is_a_400(gateway: GatewayUnderTest, body: str) -> None:
    assert gateway.client.post("/v1/uploads", data=body, headers=SHOP).status_code == 400


def test_a_repeated_submission_under_its_key_is_the_same_job(gateway: GatewayUnderTest) -> None:
    first, second = upload_through(gateway), upload_through(gateway)
    headers = {**SHOP, "Idempotency-Key": "k"}

    job = submit(gateway, headers, upload_id=first).json

    assert submit(gateway, headers, upload_id=first).json["id"] == job["id"]
    assert submit(gateway, headers, upload_id=second).json["error_type"] == "idempotency_conflict"


def test_an_image_that_is_given_twice_is_a_400(gateway: GatewayUnderTest) -> None:
    upload_id = upload_through(gateway)

    for members in (
        {"upload_id": upload_id, "inputs": "AAAA"},
        {"upload_id": upload_id, "image_url": "https://photos.example/a.jpg"},
        {"image_url": "https://photos.example/a.jpg", "inputs": "s3://photos/a.jpg"},
        {"inputs": "https://photos.example/a.jpg", "image": "https://photos.example/a.jpg"},
    ):
        response = submit(gateway, **members)
        assert response.status_code == 400
        assert "given twice" in response.json["error"]
    form = {"upload_id": upload_id, "file": (BytesIO(PHOTO), "a.png")}
    assert gateway.client.post("/v1/jobs", data=form, headers=SHOP).status_code == 400
