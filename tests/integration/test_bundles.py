"""Several images in one form: a job for each, and an answer for each, in their order."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import pytest
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from shared.errors import StorageUnavailable
from shared.jobs.model import Priority
from tests.support.gateway import GatewayUnderTest, list_queued_ids, open_gateway
from tests.support.jobs import drop_place, png

GOOD, OTHER = png(), png(9, 9)


def send(
    gateway: GatewayUnderTest, *images: bytes, headers: Mapping[str, str] | None = None, **fields: str
) -> TestResponse:
    form: MultiDict[str, Any] = MultiDict(fields)
    for number, image in enumerate(images):
        form.add("file", (BytesIO(image), f"{number}.png"))
    return gateway.client.post("/v1/jobs", data=form, headers=headers)


def test_each_image_becomes_a_job(gateway: GatewayUnderTest) -> None:
    response = send(gateway, GOOD, OTHER, GOOD, priority="low", formats="labels")

    assert response.status_code == 202
    parts = response.json["jobs"]
    assert [(part["index"], part["name"], part["status"], part["error"]) for part in parts] == [
        (number, f"{number}.png", 202, None) for number in range(3)
    ]
    jobs = [gateway.client.get(part["job"]["links"]["self"]).json for part in parts]
    assert [drop_place(job) for job in jobs] == [drop_place(part["job"]) for part in parts]
    assert len({job["id"] for job in jobs}) == 3
    assert [job["image"]["width"] for job in jobs] == [6, 9, 6]
    assert {(job["priority"], *job["formats"]) for job in jobs} == {(Priority.LOW, "labels")}


def test_an_image_that_is_refused_stops_no_other(gateway: GatewayUnderTest) -> None:
    response = send(gateway, GOOD, b"no image at all", b"", OTHER[:40], GOOD)

    assert response.status_code == 207
    parts = response.json["jobs"]
    assert [part["status"] for part in parts] == [202, 400, 400, 400, 202]
    assert [part["error_type"] for part in parts[1:4]] == ["not_an_image", "empty_body", "truncated_image"]
    assert all((part["job"] is None) == (part["error"] is not None) for part in parts)
    assert sorted(list_queued_ids(gateway)) == sorted(part["job"]["id"] for part in parts if part["job"])


def test_an_option_that_is_wrong_refuses_all(gateway: GatewayUnderTest) -> None:
    response = send(gateway, GOOD, OTHER, priority="urgent")

    assert (response.status_code, response.json["error_type"]) == (400, "bad_parameter")
    assert list_queued_ids(gateway) == []


def test_each_image_has_an_idempotency_key_of_its_own(gateway: GatewayUnderTest) -> None:
    headers = {"Idempotency-Key": "batch"}
    first, again = (send(gateway, GOOD, GOOD, headers=headers) for _ in range(2))
    other = send(gateway, GOOD, OTHER, GOOD, headers=headers)

    ids = [part["job"]["id"] for part in first.json["jobs"]]
    assert len(set(ids)) == 2
    assert [part["job"]["id"] for part in again.json["jobs"]] == ids
    assert [part["status"] for part in other.json["jobs"]] == [202, 422, 202]


def test_a_full_queue_is_told_of_each_image_that_has_no_place(clean_redis: str, storage_env: Mapping[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, max_queued=2)

    mixed, refused = send(gateway, GOOD, GOOD, GOOD, GOOD), send(gateway, GOOD, GOOD)

    assert (mixed.status_code, [part["status"] for part in mixed.json["jobs"]]) == (207, [202, 202, 429, 429])
    assert int(mixed.headers["Retry-After"]) > 0
    assert (refused.status_code, refused.json["error_type"]) == (429, "queue_full")


def test_a_store_that_does_not_answer_is_not_asked_for_each_image(
    gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def put(_self: object, key: str, *_args: object, **_options: object) -> str:
        calls.append(key)
        raise StorageUnavailable("no")

    monkeypatch.setattr("shared.storage.bucket.Bucket.put", put)

    response = send(gateway, GOOD, GOOD, GOOD)

    assert (response.status_code, response.json["error_type"], len(calls)) == (503, "storage_unavailable", 1)


def test_the_number_of_images_is_bounded(clean_redis: str, storage_env: Mapping[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, max_images_per_request=40)

    assert len(send(gateway, *[GOOD] * 40).json["jobs"]) == 40
    response = send(gateway, *[GOOD] * 41)
    assert (response.status_code, response.json["error_type"]) == (400, "unreadable_body")
    assert "at most 40" in response.json["error"]


def test_a_form_with_one_image_is_answered_with_its_job(gateway: GatewayUnderTest) -> None:
    assert send(gateway, GOOD).json["state"] == "queued"


def test_only_a_submission_of_jobs_takes_several(gateway: GatewayUnderTest) -> None:
    for method, path in (("PUT", "/v1/jobs/mine"), ("POST", "/")):
        form = MultiDict([("file", (BytesIO(GOOD), "a.png")), ("file", (BytesIO(OTHER), "b.png"))])
        response = gateway.client.open(path, method=method, data=form)

        assert (response.status_code, response.json["error_type"]) == (400, "unreadable_body")
        assert "exactly one" in response.json["error"]
