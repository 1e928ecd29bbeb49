"""The job API of the whole service over HTTP, as tenants see it: tokens, a model alias, signed URLs, a redrive."""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.http.tokens import Permission, Scope, Token, compute_digest, format_line
from deploy.local.gateway_client import GatewayClient, Response
from deploy.local.sample_job import SAMPLE_IMAGE
from deploy.local.stack import InternalPorts, Stack
from shared.jobs.model import Priority
from tests.support.environment import copy_environment
from tests.support.polling import wait_until
from tests.support.process_memory import list_descendants
from tests.support.web_server import WebServer, build_response, serve_web

PHOTO = SAMPLE_IMAGE.read_bytes()
EMBEDDED = "maskmill/embedded"
ALIAS = "facebook/mask2former-swin-large-coco-panoptic"
SUBMITS = frozenset({Scope.READ, Scope.SUBMIT})
# By the word of the token; the first three are of one tenant.
TOKENS: Mapping[str, Token] = {
    "slow": Token("shop", compute_digest("slow"), SUBMITS, permission=Permission(Priority.LOW)),
    "narrow": Token("shop", compute_digest("narrow"), SUBMITS, permission=Permission(models=frozenset({"acme/other"}))),
    "admin": Token("shop", compute_digest("admin"), frozenset({Scope.ADMIN})),
    "lab": Token("lab", compute_digest("lab"), SUBMITS | {Scope.ADMIN}),
}


@dataclass(frozen=True)
class Caller:
    """Sends requests with one token."""

    service: Stack
    token: str

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """Send a photo, JSON or no body."""
        is_json = isinstance(body, dict)
        content = json.dumps(body).encode() if is_json else body
        kind = "application/json" if is_json else "image/jpeg"
        client = GatewayClient(self.service.port, token=self.token)
        return client.request(method, path, content, kind, headers)

    def finish(self, job_id: str) -> Any:
        """Return a job that has ended."""
        view: dict[str, Any] = {}

        def is_final() -> bool:
            view.update(self.send("GET", f"/v1/jobs/{job_id}?wait=5").json())
            return view["state"] not in ("queued", "running")

        wait_until(is_final, "the end of the job", seconds=90)
        return view


class MovedPhoto:
    """A photo at a URL whose server does not answer until it is told to."""

    def __init__(self) -> None:
        self.is_there = threading.Event()

    def answer(self, _target: str, client: socket) -> None:
        if self.is_there.is_set():
            client.sendall(build_response(PHOTO))
        else:
            self.is_there.wait(30)


@pytest.fixture(scope="module")
def photo() -> MovedPhoto:
    return MovedPhoto()


@pytest.fixture(scope="module")
def web(photo: MovedPhoto) -> Iterator[WebServer]:
    with serve_web(photo.answer) as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "run").mkdir()
    ports = InternalPorts.load_or_create(folder / "run" / "ports.json")
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text("\n".join(map(format_line, TOKENS.values())))
    settings = {
        "MASKMILL_TOKENS": "shop:shop",
        "MASKMILL_TOKENS_FILE": str(tokens),
        "MASKMILL_MODEL_ALIASES": f"{ALIAS}={EMBEDDED}",
        "MASKMILL_STORAGE_PUBLIC_ENDPOINT": f"http://127.0.0.1:{ports.objects.s3}",
        "MASKMILL_URL_INPUTS": "http",
        "MASKMILL_OUTGOING_ALLOWED": "127.0.0.1/32",
        "MASKMILL_LEASE_SECONDS": "3",
        "MASKMILL_MAX_ATTEMPTS": "2",
    }
    with Stack(folder, environ={**copy_environment(), **settings}) as running:
        yield running.start()


@pytest.fixture(scope="module")
def shop(service: Stack) -> Caller:
    return Caller(service, "shop")


@pytest.fixture(scope="module")
def job(shop: Caller) -> Any:
    """A job of the shop that has succeeded, with an id of its own."""
    assert shop.send("PUT", "/v1/jobs/order-17?formats=labels", PHOTO, Prefer="wait=60").status == 200
    return shop.send("GET", "/v1/jobs/order-17").json()


def test_a_model_is_answered_for_by_its_alias_and_the_header_says_which(shop: Caller) -> None:
    answer = shop.send("POST", f"/models/{ALIAS}", PHOTO)
    submitted = shop.send("POST", f"/v1/jobs?model={ALIAS}", PHOTO).json()

    assert (answer.status, answer.headers["x-maskmill-model"]) == (200, EMBEDDED)
    assert {segment["label"] for segment in answer.json()} >= {"person"}
    assert shop.finish(submitted["id"])["model"] == EMBEDDED
    assert shop.send("GET", f"/v1/models/{ALIAS}").json()["id"] == EMBEDDED


@pytest.mark.parametrize("file", ["labels.png", "input"])
def test_a_file_is_redirected_to_where_it_is_stored(shop: Caller, service: Stack, job: Any, file: str) -> None:
    path = f"/v1/jobs/{job['id']}/{file}"

    redirect = shop.send("GET", f"{path}?redirect=1")

    location = redirect.headers["location"]
    assert (redirect.status, redirect.headers["cache-control"]) == (307, "private, no-store")
    assert urlsplit(location).netloc == f"127.0.0.1:{service.ports.objects.s3}"
    assert fetch(location) == shop.send("GET", path).body


def test_a_result_has_links_to_the_store_that_say_when_they_expire(shop: Caller, job: Any) -> None:
    urls = shop.send("GET", f"/v1/jobs/{job['id']}/result?urls=1").json()["urls"]

    assert set(urls) == {"labels"}
    assert 0 < urls["labels"]["expires_in_seconds"] <= 7 * 86400
    assert fetch(urls["labels"]["url"]) == shop.send("GET", f"/v1/jobs/{job['id']}/labels.png").body


def fetch(url: str) -> bytes:
    """Return what is at a URL, without any token."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


def test_a_token_has_a_highest_priority(service: Stack) -> None:
    slow = Caller(service, "slow")

    unnamed, refused = slow.send("POST", "/v1/jobs", PHOTO), slow.send("POST", "/v1/jobs?priority=normal", PHOTO)

    assert (unnamed.status, unnamed.json()["priority"]) == (202, "low")
    assert (refused.status, refused.json()["error_type"]) == (403, "not_permitted")
    assert "highest is low" in refused.json()["error"]
    assert slow.finish(unnamed.json()["id"])["state"] == "succeeded"


@pytest.mark.parametrize("path", ["/v1/jobs", f"/models/{ALIAS}"])
def test_a_token_uses_the_models_of_its_list(service: Stack, path: str) -> None:
    refused = Caller(service, "narrow").send("POST", path, PHOTO)

    assert (refused.status, refused.json()["error_type"]) == (403, "not_permitted")
    assert "may use acme/other" in refused.json()["error"]


def test_the_job_of_another_tenant_is_unknown_on_every_route(service: Stack, job: Any) -> None:
    lab = Caller(service, "lab")
    requests = list(list_requests_of_jobs(lab, job["id"]))

    answers = {f"{method} {path}": lab.send(method, path, body) for method, path, body in requests}

    assert len(requests) > 20
    assert {name: read_error(answer) for name, answer in answers.items()} == dict.fromkeys(answers, "404 unknown_job")


def test_the_job_of_another_tenant_is_in_no_list(service: Stack, shop: Caller, job: Any) -> None:
    lab = Caller(service, "lab")

    found = lab.send("GET", f"/v1/jobs?ids={job['id']}").json()

    assert (found["jobs"], found["missing"]) == ([], [job["id"]])
    assert lab.send("GET", "/v1/jobs").json()["jobs"] == []
    assert read_error(lab.send("GET", "/v1/jobs/order-17")) == "404 unknown_job"
    assert shop.send("GET", "/v1/jobs/order-17").json()["id"] == job["id"]


def list_requests_of_jobs(caller: Caller, job_id: str) -> Iterator[tuple[str, str, Any]]:
    """Yield method, path and body of each route of a job, as the service describes them, but that of an own id."""
    bodies = {"/recut": {}, "/keep": {"seconds": 86400}}
    for path, methods in caller.send("GET", "/openapi.json").json()["paths"].items():
        if "{job_id}" in path:
            known = path.replace("{job_id}", job_id).replace("{number}", "1")
            body = next((body for end, body in bodies.items() if path.endswith(end)), None)
            yield from ((method.upper(), known, body) for method in methods if method in ("get", "post", "delete"))


def read_error(answer: Response) -> str:
    return f"{answer.status} {answer.json()['error_type']}"


def test_a_dead_letter_whose_cause_is_gone_is_redriven_and_succeeds(
    service: Stack, shop: Caller, web: WebServer, photo: MovedPhoto
) -> None:
    body = {"image_url": f"http://127.0.0.1:{web.port}/photo.jpg", "formats": ["labels"]}
    job_id = shop.send("POST", "/v1/jobs", body).json()["id"]
    for count in (1, 2):
        wait_until(lambda: len(web.requests) >= count, "the fetching of the URL", seconds=60)  # noqa: B023
        kill_hosts(service)
    assert shop.finish(job_id)["error_type"] == "attempts_exhausted"

    photo.is_there.set()
    dead = shop.send("GET", "/v1/jobs?state=failed&error_type=attempts_exhausted").json()["jobs"]
    redriven = shop.send("POST", f"/v1/jobs/{dead[0]['id']}/redrive")

    assert [one["id"] for one in dead] == [job_id]
    assert (redriven.status, redriven.json()["redrive_of"]) == (202, job_id)
    assert shop.finish(redriven.json()["id"])["state"] == "succeeded"
    result = shop.send("GET", f"/v1/jobs/{redriven.json()['id']}/result").json()
    assert {segment["label"] for segment in result["segments"]} >= {"person"}
    assert shop.send("GET", f"/v1/jobs/{job_id}").json()["state"] == "failed"


def kill_hosts(service: Stack) -> None:
    """Kill the processes of the worker that run jobs; it starts them again."""
    for pid in list_descendants(service.worker.pid):
        # What a host has started ends with it.
        with suppress(OSError):
            if b"worker.host" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def test_only_the_scope_admin_deletes_all_data_and_of_its_tenant_alone(service: Stack, shop: Caller, job: Any) -> None:
    """The last test of this file: it leaves nothing of the shop."""
    lab, admin = Caller(service, "lab"), Caller(service, "admin")
    other = lab.send("POST", "/v1/jobs?formats=labels", PHOTO).json()["id"]

    refused = shop.send("DELETE", "/v1/data")
    accepted = admin.send("DELETE", "/v1/data")

    assert read_error(refused) == "403 missing_scope"
    assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="admin"'
    assert accepted.status == 202
    wait_until(lambda: not shop.send("GET", "/v1/jobs").json()["jobs"], "the end of the deletion", seconds=60)
    assert read_error(shop.send("GET", f"/v1/jobs/{job['id']}/labels.png")) == "404 unknown_job"
    assert lab.finish(other)["state"] == "succeeded"
