"""The image of a job: who may fetch it, and how long it is kept after the job has ended."""

import pytest
from prometheus_client import CollectorRegistry
from werkzeug.test import TestResponse

from shared.errors import AttemptsExhausted
from shared.jobs.completion import complete_job
from shared.jobs.inputs import InputMover
from shared.jobs.result import failed_result
from shared.jobs.survey import JobSurvey
from shared.redis_client import connect
from shared.storage.keys import dead_letter_key, inbox_key, input_key
from tests.support.gateway import GatewayUnderTest, open_gateway
from tests.support.jobs import build_sync_request, png
from tests.support.polling import wait_until
from tests.support.steward import build_steward, follow_store
from tests.support.worker import build_worker
from worker.steward.metrics import StewardMetrics
from worker.steward.retention import Retention

SHOP, LAB = {"Authorization": "Bearer s3cret"}, {"Authorization": "Bearer 0ther"}


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str], new_bucket: str) -> GatewayUnderTest:
    return open_gateway(
        clean_redis, {**storage_env, "MASKMILL_STORAGE_BUCKET": new_bucket}, tokens="shop:s3cret,lab:0ther"
    )


def submit(gateway: GatewayUnderTest) -> str:
    return str(gateway.client.post("/v1/jobs", data=png(), headers=SHOP).json["id"])


def fetch(gateway: GatewayUnderTest, job_id: str, headers: dict[str, str] = SHOP) -> TestResponse:
    return gateway.client.get(f"/v1/jobs/{job_id}/input", headers=headers)


def run(gateway: GatewayUnderTest, job_id: str, *, input_ttl_seconds: int = 60) -> None:
    build_worker(gateway.settings.model_copy(update={"input_ttl_seconds": input_ttl_seconds})).run(job_id)


def list_inputs(gateway: GatewayUnderTest) -> list[str]:
    prefixes = ("inbox/", "inputs/", "dead-letters/")
    return [found.key for prefix in prefixes for found in gateway.stores.bucket.list_objects(prefix)]


def give_up(gateway: GatewayUnderTest, job_id: str) -> None:
    """Fail a job as the steward does after its last attempt."""
    stores = gateway.stores
    result = failed_result(stores.jobs.get(job_id).request, AttemptsExhausted("Given up."))
    complete_job(result, jobs=stores.jobs, bucket=stores.bucket, inputs=InputMover(stores.bucket, 0))


def expire(gateway: GatewayUnderTest, *, result_ttl_seconds: int, input_ttl_seconds: int) -> None:
    stores = gateway.stores
    metrics, clock = StewardMetrics(CollectorRegistry()), follow_store(stores.bucket)
    survey = JobSurvey(connect(gateway.settings))
    Retention(survey, stores.bucket, metrics, clock, result_ttl_seconds, input_ttl_seconds, 60, 3600).delete_expired()


def test_the_image_is_returned_as_it_was_submitted_before_and_after_the_end(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)

    before = fetch(gateway, job_id)
    run(gateway, job_id)
    after = fetch(gateway, job_id)

    for response in (before, after):
        assert (response.status_code, response.data, response.content_type) == (200, png(), "image/png")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Disposition"] == f'attachment; filename="{job_id}.png"'
    assert gateway.client.get(f"/v1/jobs/{job_id}", headers=SHOP).json["links"]["input"] == after.request.path


def test_the_image_of_another_tenant_is_unknown(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    run(gateway, job_id)

    responses = [fetch(gateway, job_id, LAB), fetch(gateway, "0" * 32), fetch(gateway, "..")]

    assert [response.status_code for response in responses] == [404] * 3


@pytest.mark.parametrize("end", ["deleted", "canceled", "synchronous"])
def test_an_image_that_is_not_kept_is_a_410_that_says_so(gateway: GatewayUnderTest, end: str) -> None:
    if end == "synchronous":
        request = build_sync_request(tenant="shop")
        gateway.stores.jobs.create(request)
        job_id = request.id
    else:
        job_id = submit(gateway)
    match end:
        case "deleted":
            run(gateway, job_id, input_ttl_seconds=0)
        case "canceled":
            gateway.client.delete(f"/v1/jobs/{job_id}", headers=SHOP)

    response = fetch(gateway, job_id)

    assert (response.status_code, response.json["error_type"]) == (410, "gone")
    assert ("kept_until" in response.json) == (end != "synchronous")
    assert "not kept" in response.json["error"]
    assert list_inputs(gateway) == []


def test_kept_images_are_not_in_the_inbox(gateway: GatewayUnderTest) -> None:
    ids = [submit(gateway) for _ in range(4)]
    for job_id in ids[:2]:
        run(gateway, job_id)
    give_up(gateway, ids[2])

    assert list_inputs(gateway) == [inbox_key(ids[3]), input_key(ids[0]), input_key(ids[1]), dead_letter_key(ids[2])]


def test_an_image_that_was_left_in_the_inbox_is_moved_by_the_steward(gateway: GatewayUnderTest) -> None:
    stores, job_id = gateway.stores, submit(gateway)
    image = stores.bucket.get(inbox_key(job_id))
    metadata = {"request": stores.jobs.get(job_id).request.to_json()}
    run(gateway, job_id)
    stores.bucket.delete([input_key(job_id)])
    stores.bucket.put(inbox_key(job_id), image, content_type="image/png", metadata=metadata)

    build_steward(gateway.settings, stores.jobs, stores.bucket).recovery.recover_jobs()

    assert list_inputs(gateway) == [input_key(job_id)]


def test_images_are_deleted_at_the_end_of_their_own_time(gateway: GatewayUnderTest) -> None:
    ids = [submit(gateway) for _ in range(2)]
    run(gateway, ids[0])
    give_up(gateway, ids[1])

    expire(gateway, result_ttl_seconds=3600, input_ttl_seconds=3600)
    assert len(list_inputs(gateway)) == 2

    def list_left() -> list[str]:
        expire(gateway, result_ttl_seconds=3600, input_ttl_seconds=1)
        return list_inputs(gateway)

    wait_until(lambda: list_left() == [dead_letter_key(ids[1])])
    assert [fetch(gateway, job_id).status_code for job_id in ids] == [410, 200]
    assert connect(gateway.settings).exists(f"mm:job:{ids[0]}")


def test_a_dead_letter_is_deleted_with_its_job(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    give_up(gateway, job_id)
    expire(gateway, result_ttl_seconds=60, input_ttl_seconds=3600)
    assert list_inputs(gateway) == [dead_letter_key(job_id)]

    def is_gone() -> bool:
        expire(gateway, result_ttl_seconds=1, input_ttl_seconds=3600)
        return not list_inputs(gateway)

    wait_until(is_gone)
