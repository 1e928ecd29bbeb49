"""Idempotency keys outlive Redis: the steward restores them with the jobs that were submitted under them."""

from collections.abc import Mapping

import pytest
import redis
from werkzeug.test import TestResponse

from shared import redis_keys
from shared.jobs.model import Idempotency
from shared.storage.keys import inbox_key, results_prefix
from tests.support.gateway import GatewayUnderTest, open_gateway, run_job
from tests.support.jobs import build_request, png, store_input
from tests.support.steward import build_steward

KEY = "order 17"
TOKENS = "shop:s3cret,lab:0ther"
SHOP, LAB = {"Authorization": "Bearer s3cret"}, {"Authorization": "Bearer 0ther"}
# The longest key, in characters that are longer in UTF-8, and in JSON longer still.
LONG_KEY = "\u00fe" * 255
MAX_METADATA_BYTES = 2048


@pytest.fixture
def gateway(clean_redis: str, storage_env: Mapping[str, str], new_bucket: str) -> GatewayUnderTest:
    return open_gateway(clean_redis, {**storage_env, "MASKMILL_STORAGE_BUCKET": new_bucket}, tokens=TOKENS)


def submit(
    gateway: GatewayUnderTest, image: bytes = b"", *, key: str = KEY, caller: Mapping[str, str] = SHOP
) -> TestResponse:
    return gateway.client.post("/v1/jobs", data=image or png(), headers={**caller, "Idempotency-Key": key})


def lose_redis(redis_client: "redis.Redis") -> None:
    redis_client.flushall()


def recover(gateway: GatewayUnderTest) -> None:
    build_steward(gateway.settings, gateway.stores.jobs, gateway.stores.bucket).recovery.recover_jobs()


def find_key(gateway: GatewayUnderTest, job_id: str) -> Idempotency:
    found = gateway.stores.jobs.get(job_id).request.idempotency
    assert found is not None
    return found


@pytest.mark.parametrize("key", [KEY, LONG_KEY], ids=["short", "long"])
def test_after_the_loss_of_redis_a_key_stands_for_the_recovered_job(
    gateway: GatewayUnderTest, redis_client: "redis.Redis", key: str
) -> None:
    first = submit(gateway, key=key)
    lose_redis(redis_client)
    recover(gateway)

    same, other = submit(gateway, key=key), submit(gateway, png(9, 9), key=key)
    of_another_tenant = submit(gateway, png(9, 9), key=key, caller=LAB)

    assert (first.status_code, same.status_code, same.json["id"]) == (202, 202, first.json["id"])
    assert (other.status_code, other.json["error_type"]) == (422, "idempotency_conflict")
    assert of_another_tenant.status_code == 202
    run_job(gateway, first.json["id"])
    assert (submit(gateway, key=key).json["id"], submit(gateway, key=key).json["state"]) == (
        first.json["id"],
        "succeeded",
    )


def test_a_recovered_key_lives_as_long_as_it_would_have(gateway: GatewayUnderTest, redis_client: "redis.Redis") -> None:
    job_id = submit(gateway).json["id"]
    idempotency = find_key(gateway, job_id)
    before = redis_client.pexpiretime(redis_keys.idempotency(idempotency.digest))
    lose_redis(redis_client)

    recover(gateway)

    assert redis_client.pexpiretime(redis_keys.idempotency(idempotency.digest)) == before
    assert idempotency.expires_at - gateway.stores.jobs.clock.now() == pytest.approx(24 * 3600, abs=60)


def test_an_expired_key_is_not_restored(gateway: GatewayUnderTest, redis_client: "redis.Redis") -> None:
    expired = Idempotency("d" * 64, "f" * 64, gateway.stores.jobs.clock.now() - 1)
    request = build_request(idempotency=expired)
    store_input(gateway.stores.bucket, request)

    recover(gateway)

    assert gateway.stores.jobs.is_known(request.id)
    assert not redis_client.exists(redis_keys.idempotency(expired.digest))


def test_a_job_submitted_again_before_the_recovery_keeps_the_key_and_both_run(
    gateway: GatewayUnderTest, redis_client: "redis.Redis"
) -> None:
    first = submit(gateway).json["id"]
    lose_redis(redis_client)
    second = submit(gateway).json["id"]

    recover(gateway)

    assert first != second
    assert submit(gateway).json["id"] == second
    for job_id in (first, second):
        run_job(gateway, job_id)
        assert gateway.client.get(f"/v1/jobs/{job_id}", headers=SHOP).json["state"] == "succeeded"


def test_to_purge_a_job_without_its_key_leaves_the_key_to_the_other_one(
    gateway: GatewayUnderTest, redis_client: "redis.Redis"
) -> None:
    first = submit(gateway).json["id"]
    lose_redis(redis_client)
    second = submit(gateway).json["id"]
    recover(gateway)

    gateway.client.delete(f"/v1/jobs/{first}?purge=1", headers=SHOP)

    assert submit(gateway).json["id"] == second


@pytest.mark.parametrize("end", ["expired", "purged after its record had expired"])
def test_a_key_is_free_when_nothing_of_its_job_is_kept_any_more(
    gateway: GatewayUnderTest, redis_client: "redis.Redis", end: str
) -> None:
    first = submit(gateway).json["id"]
    run_job(gateway, first)
    redis_client.delete(redis_keys.job(first))
    assert submit(gateway).json["id"] == first
    if end == "expired":
        gateway.stores.bucket.delete([found.key for found in gateway.stores.bucket.list_objects(results_prefix(first))])
    else:
        gateway.client.delete(f"/v1/jobs/{first}?purge=1", headers=SHOP)

    second, repeated = submit(gateway), submit(gateway)

    assert (second.status_code, second.json["state"]) == (202, "queued")
    assert second.json["id"] == repeated.json["id"] != first
    expires_at = redis_client.pexpiretime(redis_keys.idempotency(find_key(gateway, second.json["id"]).digest))
    assert expires_at / 1000 - gateway.stores.jobs.clock.now() == pytest.approx(24 * 3600, abs=60)


def test_the_metadata_of_an_input_has_no_more_than_s3_allows(gateway: GatewayUnderTest) -> None:
    response = gateway.client.post(
        "/v1/jobs?formats=labels,overlay,masks&subtask=panoptic&threshold=0.123456789&mask_threshold=0.123456789",
        data=png(),
        headers={**SHOP, "Idempotency-Key": LONG_KEY, "X-Request-ID": "r" * 64},
    )

    metadata = gateway.stores.bucket.get_metadata(inbox_key(response.json["id"]))["request"]
    assert metadata.isascii()
    # A tenant has up to 64 characters, and other ids of models may be longer.
    assert len("request" + metadata) < MAX_METADATA_BYTES - 64 - 255
