"""Jobs under ids of their callers: submitted once, found by every route, and kept as long as the record."""

from collections.abc import Mapping

import pytest
import redis
from werkzeug.test import TestResponse

from shared import redis_keys
from tests.support.gateway import GatewayUnderTest, open_gateway, run_job
from tests.support.jobs import drop_place, png
from tests.support.steward import build_steward

TOKENS = "shop:s3cret,lab:0ther"
SHOP, LAB = {"Authorization": "Bearer s3cret"}, {"Authorization": "Bearer 0ther"}
ID = "Order.17_~a-b"


@pytest.fixture
def gateway(clean_redis: str, storage_env: Mapping[str, str], new_bucket: str) -> GatewayUnderTest:
    return open_gateway(clean_redis, {**storage_env, "MASKMILL_STORAGE_BUCKET": new_bucket}, tokens=TOKENS)


def put(
    gateway: GatewayUnderTest, query: str = "", *, name: str = ID, image: bytes = b"", caller: Mapping[str, str] = SHOP
) -> TestResponse:
    return gateway.client.put(f"/v1/jobs/{name}{query}", data=image or png(), headers=caller)


def get(gateway: GatewayUnderTest, path: str = "", caller: Mapping[str, str] = SHOP) -> TestResponse:
    return gateway.client.get(f"/v1/jobs/{ID}{path}", headers=caller)


def recover(gateway: GatewayUnderTest) -> None:
    build_steward(gateway.settings, gateway.stores.jobs, gateway.stores.bucket).recovery.recover_jobs()


def test_a_job_is_created_once_under_an_own_id(gateway: GatewayUnderTest) -> None:
    first, same = put(gateway), put(gateway)
    run_job(gateway, first.json["id"])
    ended = put(gateway)

    assert [response.status_code for response in (first, same, ended)] == [202, 202, 200]
    assert first.json["id"] == same.json["id"] == ended.json["id"] != ID
    assert (first.json["client_id"], ended.json["state"]) == (ID, "succeeded")
    assert ended.headers["Location"] == f"/v1/jobs/{first.json['id']}"


@pytest.mark.parametrize(("query", "image"), [("?labels=cat", b""), ("?threshold=0.5", b""), ("", png(9, 9))])
def test_another_submission_under_the_same_id_is_refused(gateway: GatewayUnderTest, query: str, image: bytes) -> None:
    first = put(gateway)

    other = put(gateway, query, image=image)

    assert (other.status_code, other.json["error_type"]) == (409, "client_id_taken")
    assert drop_place(get(gateway).json) == drop_place(first.json)


def test_every_route_of_a_job_takes_it(gateway: GatewayUnderTest) -> None:
    job_id = put(gateway, "?formats=masks,overlay").json["id"]
    run_job(gateway, job_id)

    paths = ["", "?wait=1", "/result", "/labels.png", "/masks.zip", "/overlay.png", "/masks/1.png", "/input"]
    answers = {path: get(gateway, path) for path in paths}

    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(paths, 200)
    assert all(
        answer.data == gateway.client.get(f"/v1/jobs/{job_id}{path}", headers=SHOP).data
        for path, answer in answers.items()
    )
    assert gateway.client.delete(f"/v1/jobs/{ID}", headers=SHOP).status_code == 409
    assert gateway.client.delete(f"/v1/jobs/{ID}?purge=1", headers=SHOP).status_code == 204
    assert get(gateway).status_code == 404


def test_it_belongs_to_its_tenant(gateway: GatewayUnderTest) -> None:
    of_shop = put(gateway)

    assert get(gateway, caller=LAB).status_code == 404
    assert gateway.client.delete(f"/v1/jobs/{ID}", headers=LAB).status_code == 404
    of_lab = put(gateway, image=png(9, 9), caller=LAB)
    assert (of_lab.status_code, of_lab.json["id"] != of_shop.json["id"]) == (202, True)
    assert get(gateway).json["id"] == of_shop.json["id"]
    assert get(gateway, caller=LAB).json["id"] == of_lab.json["id"]


def test_it_is_restored_after_the_loss_of_redis(gateway: GatewayUnderTest, redis_client: "redis.Redis") -> None:
    first = put(gateway)
    redis_client.flushall()
    recover(gateway)

    assert get(gateway).json["id"] == put(gateway).json["id"] == first.json["id"]
    assert put(gateway, image=png(9, 9)).status_code == 409
    run_job(gateway, first.json["id"])
    assert get(gateway).json["state"] == "succeeded"


def test_it_expires_with_the_record_of_its_job(gateway: GatewayUnderTest, redis_client: "redis.Redis") -> None:
    job_id = put(gateway).json["id"]
    own, record = redis_keys.client_id("shop", ID), redis_keys.job(job_id)
    before = redis_client.ttl(own)

    run_job(gateway, job_id)

    assert (before, redis_client.ttl(own)) == (-1, pytest.approx(redis_client.ttl(record), abs=1))


def test_it_is_free_after_a_purge(gateway: GatewayUnderTest) -> None:
    first = put(gateway).json["id"]
    gateway.client.delete(f"/v1/jobs/{first}?purge=1", headers=SHOP)

    assert put(gateway, image=png(9, 9)).status_code == 202


@pytest.mark.parametrize("name", ["0" * 32, "F" * 32, "x" * 65, "a b", "a%2Fb", "\u00fc", "a:b"])
def test_a_text_that_is_no_own_id_is_refused(gateway: GatewayUnderTest, name: str) -> None:
    response = put(gateway, name=name)

    assert response.status_code in (400, 404, 405)
    assert gateway.client.get("/v1/jobs", headers=SHOP).json["jobs"] == []


def test_it_takes_the_place_of_an_idempotency_key(gateway: GatewayUnderTest) -> None:
    response = gateway.client.put(f"/v1/jobs/{ID}", data=png(), headers={**SHOP, "Idempotency-Key": "k"})

    assert (response.status_code, response.json["error_type"]) == (400, "bad_parameter")
