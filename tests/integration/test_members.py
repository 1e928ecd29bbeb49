"""What a request says beside its image: heeded, refused, or named in `x-maskmill-ignored`; never dropped in silence."""

import base64
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from werkzeug.test import TestResponse

from shared.redis_client import connect
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.gateway import (
    GatewayUnderTest,
    consume_messages,
    list_queued_ids,
    open_gateway,
    run_job,
)
from tests.support.jobs import MODEL, png

INPUTS = base64.b64encode(png()).decode()
COLD_START_SECONDS, DEADLINE_SECONDS = 1, 1.5
SUBMISSIONS = ["/", f"/models/{MODEL}", "/v1/jobs"]


@pytest.fixture
def caching_gateway(clean_redis: str, storage_env: dict[str, str]) -> Iterator[GatewayUnderTest]:
    """A gateway whose worker runs its jobs and has reported the revision of its model, so that results are cached."""
    gateway = open_gateway(clean_redis, storage_env)
    status = WorkerStatus("w", MODEL, WorkerState.READY, revision="r1", since=time.time())
    WorkerRegistry(connect(gateway.settings)).report(status)
    with consume_messages(gateway, lambda job_id: run_job(gateway, job_id)):
        yield gateway


def post(gateway: GatewayUnderTest, path: str = "/", headers: dict[str, str] | None = None, **members: Any):  # type: ignore[no-untyped-def]
    return gateway.client.post(path, json={"inputs": INPUTS, **members}, headers=headers)


def check_refused(response: TestResponse, *words: str, error_type: str = "bad_parameter") -> None:
    assert (response.status_code, response.json["error_type"]) == (400, error_type)
    assert all(word in response.json["error"] for word in words), response.json["error"]


def is_reused(response: TestResponse) -> bool:
    """Tell whether the result is that of an earlier request; the first may still be ending, so that it is coalesced."""
    return response.headers["x-maskmill-cache"] in ("hit", "coalesced")


# Options.


@pytest.mark.parametrize("value", [False, "false", 0])
def test_options_use_cache_computes_again_like_the_header(caching_gateway: GatewayUnderTest, value: object) -> None:
    first = post(caching_gateway)
    cached = post(caching_gateway, options={"use_cache": True})
    again = post(caching_gateway, options={"use_cache": value})
    by_header = post(caching_gateway, headers={"x-use-cache": "false"})
    overridden = post(caching_gateway, headers={"x-use-cache": "false"}, options={"use_cache": True})

    assert [is_reused(one) for one in (first, cached, again, by_header, overridden)] == [
        False,
        True,
        False,
        False,
        True,
    ]
    assert [one.headers.get("x-maskmill-ignored") for one in (cached, again, overridden)] == [None, None, "x-use-cache"]


def test_options_wait_for_model_waits_until_the_deadline_like_the_header(
    clean_redis: str, storage_env: dict[str, str]
) -> None:
    limits = {"sync_deadline_seconds": DEADLINE_SECONDS, "cold_start_seconds": COLD_START_SECONDS}
    gateway = open_gateway(clean_redis, storage_env, **limits)

    assert post(gateway, options={"wait_for_model": True}).status_code == 504
    assert post(gateway, headers={"x-wait-for-model": "1"}, options={"wait_for_model": 0}).status_code == 503


@pytest.mark.parametrize("path", SUBMISSIONS)
def test_an_option_of_the_wrong_type_is_refused(gateway: GatewayUnderTest, path: str) -> None:
    check_refused(post(gateway, path, options={"use_cache": "maybe"}), "`options.use_cache` must be true or false")
    check_refused(post(gateway, path, options=[1]), "`options` must be a JSON object")


def test_a_header_of_an_option_that_is_wrong_or_given_twice_is_refused(gateway: GatewayUnderTest) -> None:
    check_refused(post(gateway, headers={"x-use-cache": "maybe"}), "x-use-cache must be true or false")
    check_refused(post(gateway, headers={"x-use-cache": "true,false"}), "x-use-cache is given twice")


def test_known_options_without_effect_are_not_named(gateway_with_worker: GatewayUnderTest) -> None:
    options = {"use_gpu": True, "dont_load_model": False, "retry_on_error": False}

    response = post(gateway_with_worker, options=options)

    assert response.status_code == 200
    assert "x-maskmill-ignored" not in response.headers
    assert post(gateway_with_worker, "/v1/jobs", options={**options, "use_cache": False}).status_code == 202


# Members.


@pytest.mark.parametrize("path", SUBMISSIONS)
def test_a_segmentation_parameter_beside_parameters_is_refused(gateway: GatewayUnderTest, path: str) -> None:
    check_refused(post(gateway, path, threshold=0.99), "`threshold` belongs in `parameters`")
    check_refused(post(gateway, path, options={"subtask": "semantic"}), "`subtask` belongs in `parameters`")
    assert list_queued_ids(gateway) == []


@pytest.mark.parametrize(("members", "name"), [({"top_k": 5}, "'top_k'"), ({"options": {"a": 1}}, "'options.a'")])
def test_jobs_refuse_unknown_members_and_options(gateway: GatewayUnderTest, members: dict[str, Any], name: str) -> None:
    check_refused(post(gateway, "/v1/jobs", **members), f"There is no member {name}", error_type="unknown_parameter")


@pytest.mark.parametrize("prefer", ["", "wait=20", "respond-async"])
def test_the_routes_of_hugging_face_name_what_had_no_effect(gateway_with_worker: GatewayUnderTest, prefer: str) -> None:
    members = {"model": "org/other", "task": "x\r\nSet-Cookie: a=b", "a\r\nb": 1, "options": {"c": 1}}

    response = gateway_with_worker.client.post(
        f"/models/{MODEL}?threshold=0.5",
        json={"inputs": INPUTS, "parameters": {"threshold": 0.6}, **members},
        headers={"Prefer": prefer, "Origin": "http://localhost:3000"},
    )

    assert response.status_code == (202 if prefer == "respond-async" else 200)
    assert response.headers["x-maskmill-ignored"] == "task, a%0D%0Ab, options.c, query.threshold, model"
    assert "x-maskmill-ignored" in response.headers["Access-Control-Expose-Headers"]


def test_the_model_of_the_path_is_named_only_if_the_body_has_another(gateway_with_worker: GatewayUnderTest) -> None:
    assert "x-maskmill-ignored" not in post(gateway_with_worker, f"/models/{MODEL}", model=MODEL).headers
    assert "x-maskmill-ignored" not in post(gateway_with_worker, "/", model=MODEL).headers


def test_a_cached_answer_names_what_its_own_request_has_given(caching_gateway: GatewayUnderTest) -> None:
    first, second, third = (post(caching_gateway, **members) for members in ({"a": 1}, {"b": 1}, {}))

    assert [is_reused(one) for one in (first, second, third)] == [False, True, True]
    assert [one.headers.get("x-maskmill-ignored") for one in (first, second, third)] == ["a", "b", None]


def test_errors_name_it_too(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, cold_start_seconds=COLD_START_SECONDS)

    bad = post(gateway, parameters={"threshold": 2}, top_k=1)
    unknown = post(gateway, "/models/org/none", top_k=1)
    not_ready = post(gateway, top_k=1)

    assert [one.status_code for one in (bad, unknown, not_ready)] == [400, 404, 503]
    assert {one.headers["x-maskmill-ignored"] for one in (bad, unknown, not_ready)} == {"top_k"}


def test_the_document_has_the_header_on_every_answer_of_the_routes(gateway: GatewayUnderTest) -> None:
    document = gateway.client.get("/openapi.json").json

    for path in ("/", "/models/{model_id}"):
        responses = document["paths"][path]["post"]["responses"].values()
        assert all("x-maskmill-ignored" in response["headers"] for response in responses)
    bodies = {path: document["paths"][path]["post"]["requestBody"]["content"] for path in ("/", "/v1/jobs")}
    strict = {path: body["application/json"]["schema"].get("additionalProperties") for path, body in bodies.items()}
    assert strict == {"/": None, "/v1/jobs": False}


# Forms.


def form(*files: tuple[bytes, str], **fields: Any) -> dict[str, Any]:
    return {"data": {"file": [(BytesIO(content), name) for content, name in files], **fields}}


@pytest.mark.parametrize("path", SUBMISSIONS)
def test_a_form_with_an_empty_second_input_is_accepted(gateway_with_worker: GatewayUnderTest, path: str) -> None:
    # Without a name Werkzeug's client sends `filename=""`, as browsers do.
    sent = form((png(), "a.png"), (b"", ""), threshold=" 0.5\r\n")

    assert gateway_with_worker.client.post(path, **sent).status_code in (200, 202)


@pytest.mark.parametrize("path", SUBMISSIONS)
def test_a_form_without_an_image_says_so(gateway: GatewayUnderTest, path: str) -> None:
    none = gateway.client.post(path, **form((b"", "")))

    check_refused(none, "No image was chosen", error_type="empty_body")


@pytest.mark.parametrize("path", SUBMISSIONS[:2])
def test_a_form_with_two_images_is_for_jobs_alone(gateway: GatewayUnderTest, path: str) -> None:
    two = gateway.client.post(path, **form((png(), "a.png"), (png(), "b.png")))

    check_refused(two, "2 images", error_type="unreadable_body")


# What is given twice.


@pytest.mark.parametrize("path", SUBMISSIONS)
def test_a_parameter_in_the_query_and_in_a_form_is_refused(gateway: GatewayUnderTest, path: str) -> None:
    response = gateway.client.post(f"{path}?threshold=0.5", **form((png(), "a.png"), threshold="0.5"))

    check_refused(response, "'threshold' is given twice, in the query and in the form")


@pytest.mark.parametrize("members", [{"parameters": {"threshold": 0.5}}, {"formats": ["masks"]}])
def test_jobs_refuse_a_parameter_in_the_query_and_in_json(gateway: GatewayUnderTest, members: dict[str, Any]) -> None:
    response = post(gateway, "/v1/jobs?threshold=0.5&formats=masks", **members)

    check_refused(response, "is given twice, in the query and in the body")
