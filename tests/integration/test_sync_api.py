"""The synchronous API over a real Valkey and a real object store: one request, one JSON array."""

import base64
import gzip
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
import redis
from PIL import Image
from werkzeug.test import TestResponse

from api.server.budget import ByteBudget
from api.server.options import RESERVATION_KEY
from shared.errors import OutOfMemory
from shared.jobs.completion import complete_job, read_result
from shared.jobs.model import JobState
from shared.jobs.outcomes import ClaimOutcome
from shared.jobs.result import failed_result
from shared.redis_client import connect
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.gateway import (
    GatewayUnderTest,
    consume_messages,
    list_queued_ids,
    open_gateway,
    run_job,
)
from tests.support.images import cat, jpeg, sideways_cat
from tests.support.jobs import png
from tests.support.polling import wait_until

MODEL = "maskmill/embedded"


def post_image(gateway: GatewayUnderTest, path: str = "/", **kwargs: Any) -> TestResponse:
    body = {} if "json" in kwargs else {"data": jpeg(cat())}
    return gateway.client.post(path, **{**body, **kwargs})


def test_the_response_is_an_array_of_segments(gateway_with_worker: GatewayUnderTest) -> None:
    response = post_image(gateway_with_worker)

    assert (response.status_code, response.mimetype) == (200, "application/json")
    left, right = response.json
    assert list(left) == ["score", "label", "mask"]
    assert (left["label"], right["label"]) == ("cat", "dog")
    mask = Image.open(BytesIO(base64.b64decode(left["mask"], validate=True)))
    assert (mask.mode, mask.size, mask.getextrema()) == ("L", cat().size, (0, 255))


def test_a_request_sends_no_command_for_the_time(
    gateway_with_worker: GatewayUnderTest, redis_client: "redis.Redis"
) -> None:
    with redis_client.monitor() as monitor:
        for side in (8, 9, 10):
            assert post_image(gateway_with_worker, data=png(side, side)).status_code == 200
        redis_client.echo("end")
        sent = [seen["command"].split()[0] for seen in read_until_echo(monitor) if seen["client_type"] != "lua"]

    assert "EVALSHA" in sent
    assert "TIME" not in sent


def read_until_echo(monitor: Any) -> Iterator[dict[str, str]]:
    while not (seen := monitor.next_command())["command"].startswith("ECHO"):
        yield seen


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/predict",
        f"/models/{MODEL}",
        f"/hf-inference/models/{MODEL}",
        f"/pipeline/image-segmentation/{MODEL}",
        f"/models/{MODEL}/pipeline/image-segmentation",
        "/models/embedded",
        "/models/maskmill%2Fembedded",
    ],
)
@pytest.mark.parametrize("suffix", ["", "/", "?threshold=0.5"])
def test_every_path_that_clients_use_is_answered_without_a_redirect(
    gateway_with_worker: GatewayUnderTest, path: str, suffix: str
) -> None:
    assert post_image(gateway_with_worker, path + suffix, data=png()).status_code == 200


@pytest.mark.parametrize(
    "kwargs",
    [
        {"data": png()},
        {"data": png(), "content_type": "application/json"},
        {"data": png(), "content_type": "application/x-www-form-urlencoded"},
        {"json": {"inputs": base64.b64encode(png()).decode()}},
        {"json": {"inputs": base64.b64encode(png()).decode(), "parameters": {"threshold": None}}},
        {
            "data": json.dumps({"inputs": base64.b64encode(png()).decode(), "parameters": {"subtask": "semantic"}}),
            "content_type": "application/octet-stream",
        },
        {"data": base64.b64encode(png()), "content_type": "text/plain;charset=UTF-8"},
        {"data": {"file": (BytesIO(png()), "a.png")}},
    ],
)
def test_the_form_of_a_body_is_detected_from_its_content(
    gateway_with_worker: GatewayUnderTest, kwargs: dict[str, Any]
) -> None:
    assert post_image(gateway_with_worker, **kwargs).status_code == 200


def test_masks_have_the_orientation_of_the_upright_image(gateway_with_worker: GatewayUnderTest) -> None:
    segments = post_image(gateway_with_worker, data=sideways_cat()).json

    assert Image.open(BytesIO(base64.b64decode(segments[0]["mask"]))).size == cat().size


def test_the_response_is_compressed_if_the_client_accepts_gzip(gateway_with_worker: GatewayUnderTest) -> None:
    plain = post_image(gateway_with_worker)
    compressed = post_image(gateway_with_worker, headers={"Accept-Encoding": "gzip, deflate"})

    assert compressed.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(compressed.data)) == plain.json
    assert "Content-Encoding" not in plain.headers


def test_headers_report_the_compute_time_and_the_job_id(gateway_with_worker: GatewayUnderTest) -> None:
    response = post_image(gateway_with_worker)

    assert float(response.headers["x-compute-time"]) > 0
    job_id = response.headers["x-maskmill-job-id"]
    wait_until(lambda: gateway_with_worker.client.get(f"/v1/jobs/{job_id}").json["state"] == "succeeded")
    assert len(gateway_with_worker.client.get(f"/v1/jobs/{job_id}/result").json["segments"]) == 2


def test_a_synchronous_job_is_not_listed(gateway_with_worker: GatewayUnderTest) -> None:
    post_image(gateway_with_worker)

    assert gateway_with_worker.client.get("/v1/jobs").json["jobs"] == []


def test_each_concurrent_request_gets_its_own_masks(gateway_with_worker: GatewayUnderTest) -> None:
    sizes = [(6 + number, 4) for number in range(12)]

    with ThreadPoolExecutor(len(sizes)) as pool:
        responses = list(
            pool.map(lambda size: post_image(copy_with_own_client(gateway_with_worker), data=png(*size)).json, sizes)
        )

    assert [Image.open(BytesIO(base64.b64decode(response[0]["mask"]))).size for response in responses] == sizes


@pytest.mark.parametrize("prefer", ["", "wait=20"])
def test_a_waiting_request_does_not_hold_its_image(gateway: GatewayUnderTest, prefer: str) -> None:
    """Neither the bytes nor their share of the server's budget."""
    # A sum is an object of its own, to which no constant refers.
    image, budget = png() + bytes(1000), ByteBudget(10_000)
    references = sys.getrefcount(image)
    request = {
        "input_stream": BytesIO(image),
        "content_length": len(image),
        "headers": {"Prefer": prefer} if prefer else {},
        "environ_overrides": {RESERVATION_KEY: budget.reserve(len(image))},
    }

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(gateway.client.post, "/", **request)
        wait_until(lambda: list_queued_ids(gateway))
        wait_until(lambda: sys.getrefcount(image) == references and budget.used == 0)
        is_done = waiting.done()
        for job_id in list_queued_ids(gateway):
            run_job(gateway, job_id)
        response = waiting.result(timeout=20)

    assert not is_done
    assert response.status_code == 200


def test_a_worker_fault_is_the_response(gateway: GatewayUnderTest) -> None:
    def fail(job_id: str) -> None:
        stores = gateway.stores
        request = stores.jobs.get(job_id).request
        complete_job(failed_result(request, OutOfMemory("It does not fit.")), jobs=stores.jobs, bucket=stores.bucket)

    with consume_messages(gateway, fail):
        response = post_image(gateway)

    assert (response.status_code, response.json["error_type"]) == (500, "out_of_memory")
    assert response.json["error"] == "It does not fit."


def test_a_request_past_its_deadline_is_a_504(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway_with_deadline = open_gateway(clean_redis, storage_env, sync_deadline_seconds=0.3)

    started = time.monotonic()
    response = post_image(gateway_with_deadline)

    assert (response.status_code, response.json["error_type"]) == (504, "deadline_passed")
    assert time.monotonic() - started < 2


def test_a_job_past_its_deadline_cannot_be_claimed(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway_with_deadline = open_gateway(clean_redis, storage_env, sync_deadline_seconds=0.3)
    job_ids: list[str] = []

    with consume_messages(gateway_with_deadline, job_ids.append):
        post_image(gateway_with_deadline)

    (job_id,) = job_ids
    assert gateway_with_deadline.stores.jobs.get(job_id).state is JobState.EXPIRED
    assert gateway_with_deadline.stores.jobs.attempts.claim("maskmill/embedded", worker="w") is ClaimOutcome.EMPTY
    job_result = read_result(job_id, bucket=gateway_with_deadline.stores.bucket)
    assert job_result is not None
    assert job_result.state is JobState.EXPIRED


def test_an_unknown_model_is_a_404(gateway: GatewayUnderTest) -> None:
    response = post_image(gateway, "/models/facebook/unheard-of")

    assert (response.status_code, response.json["error_type"]) == (404, "unknown_model")


def test_a_model_is_known_from_the_heartbeat_of_its_worker(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env)
    registry = WorkerRegistry(connect(gateway.settings))
    registry.report(
        WorkerStatus(
            "w", "acme/roads", WorkerState.READY, device="cuda:0", revision="r1", forward="fast", agreement=0.9999
        )
    )

    with consume_messages(gateway, lambda job_id: run_job(gateway, job_id)):
        response = post_image(gateway, "/models/acme/roads")

    assert (response.status_code, response.headers["x-compute-type"]) == (200, "gpu")
    [worker] = gateway.client.get("/v1/models/acme/roads").json["workers"]
    assert (worker["revision"], worker["forward"], worker["agreement"]) == ("r1", "fast", 0.9999)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"data": b""},
        {"data": b"cats.jpg"},
        {"json": {}},
        {"json": {"inputs": {}}},
        {"json": {"inputs": "/etc/passwd"}},
        {"json": {"inputs": "http://169.254.169.254/"}},
        {"data": jpeg(cat())[:5000]},
        {"query_string": {"threshold": "high"}},
        {"query_string": {"subtask": "all"}},
        {"query_string": {"treshold": "0.5"}},
    ],
)
def test_an_invalid_request_is_rejected_with_a_message(gateway: GatewayUnderTest, kwargs: dict[str, Any]) -> None:
    response = post_image(gateway, **kwargs)

    assert response.status_code == 400
    assert isinstance(response.json["error"], str)
    assert len(response.json["error"]) > 10
    assert list_queued_ids(gateway) == []


def copy_with_own_client(gateway: GatewayUnderTest) -> GatewayUnderTest:
    """Return the same gateway with a new client, because Flask's test client is not thread-safe."""
    client = gateway.client.application.test_client()
    return replace(gateway, client=client)
