"""The synchronous way in: one request, one JSON array, over a real Valkey and a real object store."""

import base64
import gzip
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from werkzeug.test import TestResponse

from shared.errors import OutOfMemory
from shared.jobs.completion import complete_job, failed, read_result
from shared.jobs.model import JobState
from shared.redis_client import connect
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.gateway import GatewayUnderTest, do_job, gateway, queued_ids, shared_gateway, working
from tests.support.images import cat, jpeg, sideways_cat
from tests.support.jobs import png
from tests.support.polling import wait_until

MODEL = "maskmill/embedded"


@pytest.fixture
def maskmill(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    """A gateway with nobody behind it."""
    return shared_gateway(clean_redis, storage_env)


@pytest.fixture
def staffed(maskmill: GatewayUnderTest) -> Iterator[GatewayUnderTest]:
    """A gateway with a worker behind it."""
    with working(maskmill, lambda job_id: do_job(maskmill, job_id)):
        yield maskmill


def ask(maskmill: GatewayUnderTest, path: str = "/", **kwargs: Any) -> TestResponse:
    body = {} if "json" in kwargs else {"data": jpeg(cat())}
    return maskmill.client.post(path, **{**body, **kwargs})


def test_a_photo_goes_in_and_an_array_comes_out(staffed: GatewayUnderTest) -> None:
    answer = ask(staffed)

    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    left, right = answer.json
    assert list(left) == ["score", "label", "mask"]
    assert (left["label"], right["label"]) == ("cat", "dog")
    mask = Image.open(BytesIO(base64.b64decode(left["mask"], validate=True)))
    assert (mask.mode, mask.size, mask.getextrema()) == ("L", cat().size, (0, 255))


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
@pytest.mark.parametrize("end", ["", "/", "?threshold=0.5"])
def test_every_address_that_clients_know_is_served_without_a_redirect(
    staffed: GatewayUnderTest, path: str, end: str
) -> None:
    assert ask(staffed, path + end, data=png()).status_code == 200


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
def test_a_body_is_taken_for_what_it_is(staffed: GatewayUnderTest, kwargs: dict[str, Any]) -> None:
    assert ask(staffed, **kwargs).status_code == 200


def test_a_photo_is_segmented_the_right_way_up(staffed: GatewayUnderTest) -> None:
    segments = ask(staffed, data=sideways_cat()).json

    assert Image.open(BytesIO(base64.b64decode(segments[0]["mask"]))).size == cat().size


def test_the_answer_is_shrunk_for_those_who_can_read_it(staffed: GatewayUnderTest) -> None:
    plain = ask(staffed)
    shrunk = ask(staffed, headers={"Accept-Encoding": "gzip, deflate"})

    assert shrunk.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(shrunk.data)) == plain.json
    assert "Content-Encoding" not in plain.headers


def test_the_headers_tell_how_long_it_took_and_which_job_it_was(staffed: GatewayUnderTest) -> None:
    answer = ask(staffed)

    assert float(answer.headers["x-compute-time"]) > 0
    job_id = answer.headers["x-maskmill-job-id"]
    wait_until(lambda: staffed.client.get(f"/v1/jobs/{job_id}").json["state"] == "succeeded")
    assert len(staffed.client.get(f"/v1/jobs/{job_id}/result").json["segments"]) == 2


def test_a_synchronous_request_is_not_in_the_list_of_jobs(staffed: GatewayUnderTest) -> None:
    ask(staffed)

    assert staffed.client.get("/v1/jobs").json["jobs"] == []


def test_many_callers_get_each_their_own_answer(staffed: GatewayUnderTest) -> None:
    sizes = [(6 + number, 4) for number in range(12)]

    with ThreadPoolExecutor(len(sizes)) as pool:
        answers = list(pool.map(lambda size: ask(fresh(staffed), data=png(*size)).json, sizes))

    assert [Image.open(BytesIO(base64.b64decode(answer[0]["mask"]))).size for answer in answers] == sizes


def test_a_failure_of_the_worker_is_the_answer(maskmill: GatewayUnderTest) -> None:
    def fail(job_id: str) -> None:
        services = maskmill.services
        request = services.jobs.get(job_id).request
        complete_job(failed(request, OutOfMemory("It does not fit.")), jobs=services.jobs, bucket=services.bucket)

    with working(maskmill, fail):
        answer = ask(maskmill)

    assert (answer.status_code, answer.json["error_type"]) == (500, "out_of_memory")
    assert answer.json["error"] == "It does not fit."


def test_nobody_waits_longer_than_the_deadline(clean_redis: str, storage_env: dict[str, str]) -> None:
    hurried = gateway(clean_redis, storage_env, sync_deadline_seconds=0.3)

    started = time.monotonic()
    answer = ask(hurried)

    assert (answer.status_code, answer.json["error_type"]) == (504, "deadline_passed")
    assert time.monotonic() - started < 2


def test_after_the_deadline_nobody_works_for_it(clean_redis: str, storage_env: dict[str, str]) -> None:
    hurried = gateway(clean_redis, storage_env, sync_deadline_seconds=0.3)
    seen: list[str] = []

    with working(hurried, seen.append):
        ask(hurried)

    (job_id,) = seen
    assert hurried.services.jobs.claim(job_id, worker="w") == JobState.EXPIRED
    end = read_result(job_id, bucket=hurried.services.bucket)
    assert end is not None
    assert end.state is JobState.EXPIRED


def test_a_model_that_nobody_serves_is_refused_at_once(maskmill: GatewayUnderTest) -> None:
    answer = ask(maskmill, "/models/facebook/unheard-of")

    assert (answer.status_code, answer.json["error_type"]) == (404, "unknown_model")


def test_a_model_is_known_by_its_workers(clean_redis: str, storage_env: dict[str, str]) -> None:
    maskmill = gateway(clean_redis, storage_env)
    registry = WorkerRegistry(connect(maskmill.settings))
    registry.report(WorkerStatus("w", "acme/roads", WorkerState.READY, device="cuda:0", revision="r1"))

    with working(maskmill, lambda job_id: do_job(maskmill, job_id)):
        answer = ask(maskmill, "/models/acme/roads")

    assert (answer.status_code, answer.headers["x-compute-type"]) == (200, "gpu")
    assert maskmill.client.get("/v1/models/acme/roads").json["workers"][0]["revision"] == "r1"


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
def test_what_cannot_be_segmented_is_refused_with_a_sentence(
    maskmill: GatewayUnderTest, kwargs: dict[str, Any]
) -> None:
    answer = ask(maskmill, **kwargs)

    assert answer.status_code == 400
    assert isinstance(answer.json["error"], str)
    assert len(answer.json["error"]) > 10
    assert queued_ids(maskmill) == []


def fresh(maskmill: GatewayUnderTest) -> GatewayUnderTest:
    """The same gateway through a client of its own: Flask's test client is for one thread."""
    client = maskmill.client.application.test_client()
    return GatewayUnderTest(client, maskmill.services, maskmill.settings)
