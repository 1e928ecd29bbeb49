"""Queues, the last hour, and models with classes and aliases, on a real gateway."""

import base64
import time
from typing import Any

import pytest

from shared.errors import AttemptsExhausted
from shared.jobs.model import Failure, JobState, Priority
from shared.jobs.render_calls import RenderCall, RenderKind
from shared.redis_client import connect
from shared.worker_registry import ModelClass, ModelFacts, WorkerRegistry, WorkerState, WorkerStatus
from tests.support.gateway import GatewayUnderTest, consume_messages, open_gateway, run_job
from tests.support.jobs import MODEL, png

OTHER = "acme/roads"
HUB = "facebook/mask2former-swin-large-coco-panoptic"
BASE64 = base64.b64encode(png()).decode()
FACTS = ModelFacts((ModelClass(15, "cat", True), ModelClass(90, "sky", False)), ("panoptic", "instance"))


def report_worker(gateway: GatewayUnderTest, model: str = MODEL, facts: ModelFacts | None = None) -> None:
    status = WorkerStatus(f"w-{model}", model, WorkerState.READY, device="cpu", revision="r1", since=time.time())
    WorkerRegistry(connect(gateway.settings)).report(status, facts)


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    gateway = open_gateway(clean_redis, storage_env, model_aliases=f"{HUB}={MODEL}, road={OTHER}")
    report_worker(gateway, facts=FACTS)
    return gateway


def show_queue(gateway: GatewayUnderTest, model: str = MODEL) -> Any:
    models = gateway.client.get("/v1/queue").json["models"]
    return next(one for one in models if one["model"] == model)


def test_the_queue_shows_waiting_jobs_by_priority(gateway: GatewayUnderTest) -> None:
    jobs = [gateway.client.post("/v1/jobs", data=png()).json["id"] for _ in range(3)]
    run_job(gateway, jobs[0])

    shown = show_queue(gateway)

    assert [queue["priority"] for queue in shown["queues"]] == [*Priority]
    normal = shown["queues"][1]
    assert (normal["queued"], normal["delayed"], normal["suspects"]) == (2, 0, 0)
    assert 0 <= normal["oldest_seconds"] < 60
    assert shown["queues"][0]["oldest_seconds"] is None
    assert shown["ready_workers"] == 1


def test_the_queue_shows_the_renderer(gateway: GatewayUnderTest) -> None:
    absent = gateway.client.get("/v1/queue").json["renderer"]
    gateway.stores.renders.report_alive()
    call = RenderCall(RenderKind.FORMAT, "default", "job", {})
    gateway.stores.renders.enqueue(call, "", seconds=5, max_calls=2, max_calls_per_tenant=2)

    present = gateway.client.get("/v1/queue").json["renderer"]

    assert (absent, present) == ({"is_alive": False, "queued": 0}, {"is_alive": True, "queued": 1})


def test_the_last_hour_counts_ends_errors_and_batches(gateway: GatewayUnderTest) -> None:
    jobs = [gateway.client.post("/v1/jobs", data=png()).json["id"] for _ in range(3)]
    store = gateway.stores.jobs
    requests = [store.get(job_id).request for job_id in jobs]
    store.finish(requests[0], JobState.SUCCEEDED, timings_ms={"device": 30.0}, batch_size=3)
    store.finish(requests[1], JobState.FAILED, failure=Failure(AttemptsExhausted.code, ""))
    gateway.client.delete(f"/v1/jobs/{jobs[2]}")

    hour = show_queue(gateway)["last_hour"]

    assert len(hour) == 60
    # The minute may have changed meanwhile.
    totals = {name: sum(minute[name] for minute in hour[-2:]) for name in ("succeeded", "failed", "canceled", "images")}
    assert totals == {"succeeded": 1, "failed": 1, "canceled": 1, "images": 1}
    assert sum(minute["errors"].get("attempts_exhausted", 0) for minute in hour) == 1
    assert [minute["mean_batch_size"] for minute in hour if minute["images"]] == [3.0]
    assert sum(minute["device_ms"] for minute in hour) == 10


def test_a_job_that_ran_is_in_the_last_hour(gateway: GatewayUnderTest) -> None:
    job_id = gateway.client.post("/v1/jobs", data=png()).json["id"]

    run_job(gateway, job_id)

    assert sum(minute["succeeded"] for minute in show_queue(gateway)["last_hour"]) == 1


def test_a_model_shows_classes_subtasks_and_queues(gateway: GatewayUnderTest) -> None:
    shown = gateway.client.get(f"/v1/models/{MODEL}").json

    assert shown["subtasks"] == ["panoptic", "instance"]
    assert shown["classes"] == [
        {"id": 15, "label": "cat", "is_thing": True},
        {"id": 90, "label": "sky", "is_thing": False},
    ]
    assert [queue["queued"] for queue in shown["queues"]] == [0, 0, 0]
    assert "images_per_second" in shown


def test_a_model_that_nobody_has_loaded_has_no_classes(clean_redis: str, storage_env: dict[str, str]) -> None:
    shown = open_gateway(clean_redis, storage_env).client.get(f"/v1/models/{MODEL}").json

    assert (shown["classes"], shown["subtasks"]) == ([], [])


def test_an_alias_is_answered_by_its_model_and_the_answer_says_so(gateway: GatewayUnderTest) -> None:
    with consume_messages(gateway, lambda job_id: run_job(gateway, job_id)):
        answer = gateway.client.post(f"/models/{HUB}", data=png())
    job = gateway.client.post("/v1/jobs", json={"inputs": BASE64, "model": HUB}).json

    assert answer.status_code == 200
    assert answer.headers["x-maskmill-model"] == MODEL
    assert job["model"] == MODEL
    assert gateway.client.get(f"/v1/models/{HUB}").json["id"] == MODEL


def test_a_worker_of_the_very_model_comes_before_an_alias(gateway: GatewayUnderTest) -> None:
    report_worker(gateway, HUB)

    assert gateway.client.get(f"/v1/models/{HUB}").json["id"] == HUB


def test_an_alias_of_a_model_that_is_not_served_is_unknown(gateway: GatewayUnderTest) -> None:
    answer = gateway.client.get("/v1/models/road")

    assert (answer.status_code, answer.json["error_type"]) == (404, "unknown_model")


def test_two_models_have_queues_of_their_own(gateway: GatewayUnderTest) -> None:
    report_worker(gateway, OTHER)

    jobs = [gateway.client.post("/v1/jobs", json={"inputs": BASE64, "model": model}).json for model in (MODEL, OTHER)]

    assert [job["model"] for job in jobs] == [MODEL, OTHER]
    assert [show_queue(gateway, model)["queues"][1]["queued"] for model in (MODEL, OTHER)] == [1, 1]
    assert gateway.stores.jobs.attempts.claim(OTHER, worker="w").request.id == jobs[1]["id"]  # type: ignore[union-attr]
