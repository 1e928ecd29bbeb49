"""Images that a job names: at a URL, in a bucket, uploaded before; over HTTP, with a real worker."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.sample_job import SAMPLE_IMAGE
from deploy.local.stack import Stack
from tests.support.environment import copy_environment
from tests.support.polling import wait_until
from tests.support.web_server import WebServer, build_redirect, build_response, serve_web

PHOTO = SAMPLE_IMAGE.read_bytes()


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    """A server on loopback: a photo, and a redirect to where nothing may be fetched."""
    answers = {"/photo.jpg": build_response(PHOTO), "/inside": build_redirect("http://169.254.169.254/latest/")}
    with serve_web(lambda target, client: client.sendall(answers[target.partition("?")[0]])) as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that may fetch from loopback, and read one bucket."""
    settings = {
        "MASKMILL_URL_INPUTS": "http",
        "MASKMILL_OUTGOING_ALLOWED": "127.0.0.1/32",
        "MASKMILL_INPUT_BUCKETS": "scans",
    }
    with Stack(tmp_path_factory.mktemp("stack"), environ={**copy_environment(), **settings}) as running:
        yield running.start()


def submit(service: Stack, **members: Any) -> Any:
    response = service.client.request("POST", "/v1/jobs", json.dumps(members).encode(), "application/json")
    return response.json()


def finish(service: Stack, job: dict[str, Any]) -> dict[str, Any]:
    """Return a job that has ended."""
    view: dict[str, Any] = {}

    def is_final() -> bool:
        view.update(service.client.get(f"/v1/jobs/{job['id']}?wait=5").json())
        return view["state"] not in ("queued", "running")

    wait_until(is_final, "the end of the job", seconds=60)
    return view


def test_urls_objects_and_uploads_are_segmented_alike(service: Stack, web: WebServer) -> None:
    service.objects.create_bucket("scans")
    with service.objects.client() as client:
        client.put_object(Bucket="scans", Key="a/photo.jpg", Body=PHOTO)
    upload = service.client.request("POST", "/v1/uploads", b"{}", "application/json").json()
    service.client.request("PUT", upload["url"], PHOTO)

    jobs = [
        submit(service, inputs=f"http://127.0.0.1:{web.port}/photo.jpg?X-Signature=s3cr3t"),
        submit(service, image_url="s3://scans/a/photo.jpg"),
        submit(service, upload_id=upload["upload_id"]),
        service.client.request("POST", "/v1/jobs", PHOTO).json(),
    ]
    views = [finish(service, job) for job in jobs]

    assert [job["image"] is None for job in jobs] == [True, True, True, False]
    assert {view["state"] for view in views} == {"succeeded"}
    assert {json.dumps(view["image"]) for view in views} == {json.dumps(jobs[3]["image"])}
    results = [service.client.get(f"/v1/jobs/{job['id']}/result").json()["segments"] for job in jobs]
    assert [[segment["area"] for segment in one] for one in results] == [[s["area"] for s in results[3]]] * 4


def test_a_redirect_to_an_address_inside_fails_the_job(service: Stack, web: WebServer) -> None:
    view = finish(service, submit(service, image_url=f"http://127.0.0.1:{web.port}/inside?X-Signature=s3cr3t"))

    assert (view["state"], view["error_type"]) == ("failed", "url_refused")
    assert "169.254" not in json.dumps(view)


def test_no_log_has_the_query_of_a_url(service: Stack, web: WebServer) -> None:
    finish(service, submit(service, image_url=f"http://127.0.0.1:{web.port}/inside?X-Signature=s3cr3t"))

    logs = [path for path in (service.data / "logs").iterdir() if path.is_file()]
    assert logs
    assert [path.name for path in logs if b"s3cr3t" in path.read_bytes()] == []
