"""Options of a submission over HTTP: alike in a query, a form and JSON, shown by the job, and in its request."""

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api.app import create_app
from api.composition import build_gateway
from shared.errors import BadParameter
from shared.jobs.model import Priority
from shared.redis_client import connect
from shared.worker_registry import ModelClass, ModelFacts, WorkerRegistry, WorkerState, WorkerStatus
from tests.support.gateway import GatewayUnderTest, list_queued_ids
from tests.support.jobs import MODEL, png

INPUTS = base64.b64encode(png()).decode()
ASKED: Mapping[str, Any] = {
    "priority": "low",
    "deadline_seconds": 60,
    "labels": ["cat", "7"],
    "metadata": {"order": 17, "note": "\u00fc"},
    "polygon_tolerance": 2.5,
    "coco_polygons": True,
    "recut": "semantic",
    "model": MODEL,
}
TEXTS: Mapping[str, str] = {
    **{name: str(value) for name, value in ASKED.items()},
    "labels": "cat,7",
    "metadata": json.dumps(ASKED["metadata"]),
    "coco_polygons": "true",
}


def send(gateway: GatewayUnderTest, place: str, **options: Any) -> TestResponse:
    """Submit a job with options in one of three places."""
    if place == "json":
        return gateway.client.post("/v1/jobs", json={"inputs": INPUTS, **options})
    if place == "form":
        return gateway.client.post("/v1/jobs", data={**options, "file": (BytesIO(png()), "a.png")})
    return gateway.client.post("/v1/jobs", data=png(), query_string=options)


def report_classes(gateway: GatewayUnderTest, *labels: str) -> None:
    """Report the classes of the model, as a worker that has loaded it."""
    facts = ModelFacts(tuple(ModelClass(number, label) for number, label in enumerate(labels)))
    status = WorkerStatus("w", MODEL, WorkerState.READY, since=time.time())
    WorkerRegistry(connect(gateway.settings)).report(status, facts)


@pytest.mark.parametrize("place", ["json", "form", "query"])
def test_options_mean_the_same_in_each_place(gateway: GatewayUnderTest, place: str) -> None:
    webhook = gateway.client.post("/v1/webhooks", json={"url": "https://example.com/hook"}).json["id"]
    response = send(gateway, place, webhook=webhook, **(ASKED if place == "json" else TEXTS))

    assert response.status_code == 202, response.json
    job, request = response.json, gateway.stores.jobs.get(response.json["id"]).request
    assert job["webhook"] == webhook
    assert {name: job[name] for name in ("priority", "labels", "metadata", "recut", "model")} == {
        name: ASKED[name] for name in ("priority", "labels", "metadata", "recut", "model")
    }
    assert job["format_options"] == {"polygon_tolerance": 2.5, "coco_polygons": True}
    assert request.deadline_at == pytest.approx(request.created_at + 60)
    assert (request.priority, request.labels, request.keeps_all_queries) == (Priority.LOW, ("cat", "7"), True)
    shown = gateway.client.get(job["links"]["self"]).get_json()
    # A job that is shown has a place in the queue, too.
    assert shown | {"queue_position": None, "eta": None} == job | {"queue_position": None, "eta": None}


def test_a_job_without_options_shows_their_defaults(gateway: GatewayUnderTest) -> None:
    job = send(gateway, "query").json

    assert (job["priority"], job["labels"], job["metadata"], job["deadline_at"]) == ("normal", [], {}, None)
    assert (job["webhook"], job["recut"], job["client_id"]) == (None, None, None)


@pytest.mark.parametrize("place", ["json", "form", "query"])
def test_an_unknown_value_is_refused_with_the_known_ones(gateway: GatewayUnderTest, place: str) -> None:
    response = send(gateway, place, priority="urgent")

    assert (response.status_code, response.json["error_type"]) == (400, "bad_parameter")
    assert "'urgent'" in response.json["error"]
    assert "interactive, normal, low" in response.json["error"]


def test_an_unknown_member_is_refused_with_the_known_ones(gateway: GatewayUnderTest) -> None:
    response = send(gateway, "json", prioritty="low")

    assert (response.status_code, response.json["error_type"]) == (400, "unknown_parameter")
    assert "priority" in response.json["error"]


def test_metadata_that_are_too_large_are_refused(gateway: GatewayUnderTest) -> None:
    response = send(gateway, "json", metadata={"a": "x" * 4089})

    assert send(gateway, "json", metadata={"a": "x" * 4088}).status_code == 202
    assert (response.status_code, response.json["error_type"]) == (413, "metadata_too_large")


def test_an_option_in_two_places_is_refused(gateway: GatewayUnderTest) -> None:
    in_json = gateway.client.post("/v1/jobs?priority=low", json={"inputs": INPUTS, "priority": "low"})
    in_form = gateway.client.post("/v1/jobs?model=a", data={"model": "a", "file": (BytesIO(png()), "a.png")})
    in_parameters = gateway.client.post("/v1/jobs", json={"inputs": INPUTS, "parameters": {"priority": "low"}})

    for response in (in_json, in_form, in_parameters):
        assert (response.status_code, response.json["error_type"]) == (400, "bad_parameter")
    assert "given twice" in in_json.json["error"]
    assert "beside them" in in_parameters.json["error"]


def test_the_model_may_be_named_by_the_query(gateway: GatewayUnderTest) -> None:
    response = gateway.client.post("/v1/jobs?model=org/absent", data=png())

    assert (response.status_code, response.json["error_type"]) == (404, "unknown_model")


def test_the_header_sets_the_deadline(gateway: GatewayUnderTest) -> None:
    response = gateway.client.post("/v1/jobs", data=png(), headers={"Cancel-After": "1m"})

    created, deadline = (datetime.fromisoformat(response.json[name]) for name in ("created_at", "deadline_at"))
    assert deadline - created == timedelta(seconds=60)


def test_an_image_may_be_a_data_url(gateway: GatewayUnderTest) -> None:
    response = gateway.client.post("/v1/jobs", json={"inputs": f"data:image/png;base64,{INPUTS}"})

    assert response.status_code == 202


def test_an_idempotency_key_is_for_the_same_options(gateway: GatewayUnderTest) -> None:
    headers = {"Idempotency-Key": "options"}
    first, same, other = (
        gateway.client.post(f"/v1/jobs?labels={labels}", data=png(), headers=headers)
        for labels in ("cat", "cat", "dog")
    )

    assert first.json["id"] == same.json["id"]
    assert (other.status_code, other.json["error_type"]) == (422, "idempotency_conflict")


@pytest.mark.parametrize("place", ["json", "form", "query"])
def test_a_label_that_the_model_lacks_is_refused_by_its_name(gateway: GatewayUnderTest, place: str) -> None:
    report_classes(gateway, "cat", "door, double door")

    response = send(gateway, place, labels=["cat", "cta"] if place == "json" else "cat,cta")

    assert (response.status_code, response.json["error_type"]) == (400, "bad_parameter")
    assert "'cta'" in response.json["error"]
    assert f"/v1/models/{MODEL} " in response.json["error"]
    assert list_queued_ids(gateway) == []


def test_labels_of_the_model_are_accepted(gateway: GatewayUnderTest) -> None:
    report_classes(gateway, "cat", "door, double door")

    response = send(gateway, "json", labels=["cat", "door, double door"])

    assert (response.status_code, response.json["labels"]) == (202, ["cat", "door, double door"])


def test_any_label_may_be_asked_of_a_model_that_no_worker_has_loaded(gateway: GatewayUnderTest) -> None:
    assert send(gateway, "query", labels="cta").status_code == 202


@pytest.mark.parametrize("place", ["form", "query"])
def test_an_unknown_name_is_refused_with_the_known_ones(gateway: GatewayUnderTest, place: str) -> None:
    response = send(gateway, place, prioritty="low")

    assert (response.status_code, response.json["error_type"]) == (400, "unknown_parameter")
    for known in ("threshold", "formats", "model", "priority", "deadline_seconds", "webhook"):
        assert known in response.json["error"]


def test_the_routes_of_hugging_face_do_not_know_them(gateway: GatewayUnderTest) -> None:
    in_json = gateway.client.post(
        "/", json={"inputs": INPUTS, "priority": "urgent", "labels": "cat"}, headers={"Prefer": "respond-async"}
    )
    in_query = gateway.client.post("/?priority=low", data=png())

    assert in_json.status_code == 202
    assert in_json.headers["x-maskmill-ignored"] == "priority, labels"
    assert (in_json.json["priority"], in_json.json["labels"]) == ("normal", [])
    assert (in_query.status_code, in_query.json["error_type"]) == (400, "unknown_parameter")


def test_a_webhook_is_checked_before_anything_is_stored(gateway: GatewayUnderTest) -> None:
    asked: list[tuple[str, str]] = []

    def refuse(tenant: str, webhook: str) -> None:
        asked.append((tenant, webhook))
        raise BadParameter("There is no such endpoint.")

    built = build_gateway(gateway.settings, gateway.stores)
    app = create_app(gateway.settings, replace(built, submitter=replace(built.submitter, check_webhook=refuse)))

    refused = app.test_client().post("/v1/jobs?webhook=whe_1", data=png())
    without = app.test_client().post("/v1/jobs", data=png())

    assert (refused.status_code, refused.json["error"]) == (400, "There is no such endpoint.")
    assert (without.status_code, asked) == (202, [("public", "whe_1")])
    assert list_queued_ids(gateway) == [without.json["id"]]
