"""Images at URLs: refused at once, or by the worker that would fetch them; never fetched by a gateway."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from socket import socket
from typing import Any

import pytest
from werkzeug.test import TestResponse

from shared import redis_keys
from shared.errors import DeadlineExceeded, ModelNotReady
from shared.jobs.completion import complete_job, read_result
from shared.jobs.inputs import InputMover
from shared.jobs.messages import job_queue
from shared.jobs.result import failed_result
from shared.outgoing.client import GuardedClient
from shared.outgoing.policy import OutgoingPolicy
from shared.redis_client import connect
from shared.storage.keys import inbox_key
from tests.support.gateway import GatewayUnderTest, open_gateway
from tests.support.jobs import FakeSegmenter, ImmediateScheduler, png
from tests.support.polling import wait_until
from tests.support.steward import build_steward
from tests.support.web_server import WebServer, build_redirect, build_response, serve_web
from tests.support.worker import InProcessWorker, build_worker
from worker.batching.scheduler import Ticket
from worker.pipeline.slots import Slots
from worker.pipeline.url_fetcher import UrlFetcher
from worker.segmenter import ModelImage

PHOTO = png(40, 30)
SIGNATURE = "X-Signature=s3cr3t"
NAMES = {"inside.example": "127.0.0.1"}


class EndingScheduler(ImmediateScheduler):
    """The scheduler of a worker that ends: it takes no image any more."""

    def submit(self, image: ModelImage, **_: object) -> Ticket:
        raise ModelNotReady("The worker ends.")


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    return open_gateway(clean_redis, storage_env, url_inputs="http", outgoing_allowed="photos.example")


@pytest.fixture
def worker(gateway: GatewayUnderTest) -> InProcessWorker:
    """A worker that finds photos.example and every other name on loopback; only the first is allowed there."""
    return replace(build_worker(gateway.settings), urls=build_fetcher(2.0))


def build_fetcher(max_seconds: float) -> UrlFetcher:
    policy = OutgoingPolicy.build(("http", "https"), "photos.example")
    client = GuardedClient(policy, lambda _host, _port: ["127.0.0.1"])
    return UrlFetcher(client, 50_000, max_seconds, 2)


@pytest.fixture
def web() -> Iterator[WebServer]:
    """Serves a photo, redirects, a large file, a page and an error."""
    answers = {
        "/photo.png": build_response(PHOTO, "Content-Type: image/png"),
        "/moved": build_redirect("/photo.png"),
        "/inside": build_redirect("http://inside.example/secret"),
        "/large": build_response(bytes(50_001)),
        "/page": build_response(b"<html>secret</html>"),
        "/empty": build_response(b""),
    }

    def answer(target: str, client: socket) -> None:
        client.sendall(answers.get(target.partition("?")[0], build_response(b"secret", status="404 Not Found")))

    with serve_web(answer) as server:
        yield server


def submit(gateway: GatewayUnderTest, url: str, **kwargs: Any) -> TestResponse:
    return gateway.client.post("/v1/jobs", json={"inputs": url}, **kwargs)


def show(gateway: GatewayUnderTest, job_id: str) -> dict[str, Any]:
    return dict(gateway.client.get(f"/v1/jobs/{job_id}").json)


def test_a_url_is_fetched_by_the_worker(gateway: GatewayUnderTest, worker: InProcessWorker, web: WebServer) -> None:
    job = submit(gateway, f"http://photos.example:{web.port}/moved?{SIGNATURE}").json

    assert (job["image"], web.connections) == (None, 0)
    assert job["image_url"] == f"http://photos.example:{web.port}/moved"
    assert gateway.client.get(f"/v1/jobs/{job['id']}/input").status_code == 404
    worker.run(job["id"])

    view = show(gateway, job["id"])
    assert (view["state"], view["image"]["width"], view["image"]["bytes"]) == ("succeeded", 40, len(PHOTO))
    assert web.requests[0].startswith(f"GET /moved?{SIGNATURE} ")
    assert gateway.client.get(f"/v1/jobs/{job['id']}/input").data == PHOTO
    assert gateway.client.get(f"/v1/jobs/{job['id']}/result").json["image"] == view["image"]


def test_a_job_without_its_image_runs_again_from_its_url(
    gateway: GatewayUnderTest, worker: InProcessWorker, web: WebServer
) -> None:
    url = f"http://photos.example:{web.port}/moved"
    job_id = submit(gateway, url).json["id"]
    request = gateway.stores.jobs.get(job_id).request
    complete_job(
        failed_result(request, DeadlineExceeded("too late")),
        jobs=gateway.stores.jobs,
        bucket=gateway.stores.bucket,
        inputs=InputMover(gateway.stores.bucket, 3600),
    )

    again = gateway.client.post(f"/v1/jobs/{job_id}/redrive").json
    worker.run(again["id"])

    assert (show(gateway, again["id"])["state"], web.connections > 0) == ("succeeded", True)


@pytest.mark.parametrize("name", ["image_url", "inputs", "image"])
def test_json_and_forms_name_a_url(gateway: GatewayUnderTest, name: str) -> None:
    members = {name: "https://photos.example/photo.png", "parameters": {"threshold": 0.4}}
    form = {name: "https://photos.example/photo.png", "threshold": "0.4"}

    answers = [gateway.client.post("/v1/jobs", json=members)]
    answers += [gateway.client.post("/v1/jobs", data=form, content_type=kind) for kind in
                ("multipart/form-data", "application/x-www-form-urlencoded")]  # fmt: skip

    assert [response.status_code for response in answers] == [202] * 3
    assert {response.json["image_url"] for response in answers} == {"https://photos.example/photo.png"}
    assert {response.json["parameters"]["threshold"] for response in answers} == {0.4}


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://photos.example/",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://me:s3cr3t@photos.example/",
        "https://photos.example/" + "a" * 2048,
    ],
)
def test_a_forbidden_url_is_a_422_at_once(gateway: GatewayUnderTest, url: str) -> None:
    response = submit(gateway, url)

    assert (response.status_code, response.json["error_type"]) == (422, "forbidden_url")
    assert "s3cr3t" not in response.text
    assert gateway.client.get("/v1/jobs").json["jobs"] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/inside", "url_refused"),
        ("/large", "url_too_large"),
        ("/absent", "url_unreachable"),
        ("/empty", "url_unreachable"),
        ("/page", "not_an_image"),
    ],
)
def test_what_is_found_after_resolving_fails_the_job(
    gateway: GatewayUnderTest, worker: InProcessWorker, web: WebServer, path: str, code: str
) -> None:
    job = submit(gateway, f"http://photos.example:{web.port}{path}?{SIGNATURE}").json
    worker.run(job["id"])

    view = show(gateway, job["id"])
    result = gateway.client.get(f"/v1/jobs/{job['id']}/result")
    assert (view["state"], view["error_type"], view["image"]) == ("failed", code, None)
    assert not any(secret in json.dumps([view, result.json]) for secret in ("secret", "s3cr3t", "127.0.0.1"))
    assert web.connections == 1


def test_a_name_of_an_address_inside_fails_the_job_without_a_connection(
    gateway: GatewayUnderTest, worker: InProcessWorker, web: WebServer
) -> None:
    job = submit(gateway, f"http://inside.example:{web.port}/photo.png").json
    worker.run(job["id"])

    assert show(gateway, job["id"])["error_type"] == "url_refused"
    assert web.connections == 0


def test_a_second_attempt_uses_the_bytes_of_the_first(
    gateway: GatewayUnderTest, worker: InProcessWorker, web: WebServer
) -> None:
    job = submit(gateway, f"http://photos.example:{web.port}/photo.png").json
    replace(worker, batches=EndingScheduler(FakeSegmenter())).run(job["id"])

    view = show(gateway, job["id"])
    assert (view["state"], view["image"]["width"]) == ("queued", 40)
    assert gateway.stores.bucket.get(inbox_key(job["id"])) == PHOTO
    worker.run(job["id"])
    assert show(gateway, job["id"])["state"] == "succeeded"
    assert web.connections == 1


def test_slow_urls_do_not_delay_a_job_with_bytes(gateway: GatewayUnderTest, worker: InProcessWorker) -> None:
    is_answered = threading.Event()

    def answer(_target: str, client: socket) -> None:
        is_answered.wait(60)
        client.sendall(build_response(PHOTO))

    # Two slots and two that are lent, of which three can wait for a server.
    worker = replace(worker, slots=Slots(2, 0, lent=2), urls=build_fetcher(60.0))
    with serve_web(answer) as slow_web:
        slow = [submit(gateway, f"http://photos.example:{slow_web.port}/{number}").json["id"] for number in range(8)]
        quick = gateway.client.post("/v1/jobs", data=PHOTO).json["id"]
        with run_slots(worker, job_queue(gateway.stores.jobs.get(quick).request)):
            wait_until(lambda: show(gateway, quick)["state"] == "succeeded", "the job with bytes", seconds=20)
            states = [show(gateway, job_id)["state"] for job_id in slow]
            is_answered.set()
        for job_id in slow:
            # Those that were given back.
            worker.run(job_id)

    assert (states.count("running"), states.count("queued")) == (3, 5)
    assert {show(gateway, job_id)["state"] for job_id in slow} == {"succeeded"}


@contextmanager
def run_slots(worker: InProcessWorker, queue: str) -> Iterator[None]:
    """Run the jobs of a queue on all slots of a worker while the block runs, as the threads of a host do."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(0.01):
            if worker.slots.priorities:
                worker.run_jobs(queue)

    threads = [threading.Thread(target=run) for _ in range(worker.slots.thread_count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def test_a_job_is_recovered_with_its_url_after_redis_has_lost_it(
    gateway: GatewayUnderTest, worker: InProcessWorker, web: WebServer
) -> None:
    job = submit(gateway, f"http://photos.example:{web.port}/photo.png").json
    connect(gateway.settings).delete(redis_keys.job(job["id"]))
    build_steward(gateway.settings, gateway.stores.jobs, gateway.stores.bucket).recovery.recover_jobs()
    worker.run(job["id"])

    result = read_result(job["id"], bucket=gateway.stores.bucket)
    assert result is not None and result.state == "succeeded"
    assert result.request.image is not None


def test_urls_are_off_by_default(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env)

    for members in ({"inputs": "https://photos.example/a.png"}, {"image_url": "https://photos.example/a.png"}):
        response = gateway.client.post("/v1/jobs", json=members)
        assert (response.status_code, response.json["error_type"]) == (422, "forbidden_input")
        assert "MASKMILL_URL_INPUTS" in response.json["error"]


def test_http_is_refused_where_https_alone_is_on(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, url_inputs="https")

    assert submit(gateway, "http://photos.example/a.png").json["error_type"] == "forbidden_url"
    assert submit(gateway, "https://photos.example/a.png").status_code == 202


def test_the_routes_of_hugging_face_fetch_nothing(gateway: GatewayUnderTest) -> None:
    for members in ({"inputs": "https://photos.example/a.png"}, {"image_url": "https://photos.example/a.png"}):
        response = gateway.client.post("/models/maskmill/embedded", json=members)
        assert (response.status_code, response.json["error_type"]) == (400, "unreadable_body")


def test_no_secret_of_a_url_is_logged(
    gateway: GatewayUnderTest, worker: InProcessWorker, web: WebServer, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in ("/photo.png", "/absent", "/inside"):
        job = submit(gateway, f"http://photos.example:{web.port}{path}?{SIGNATURE}").json
        worker.run(job["id"])

    captured = capfd.readouterr()
    assert "job_completed" in captured.out + captured.err
    assert "s3cr3t" not in captured.out + captured.err
