"""The whole service behind nginx, with TLS and a path prefix, by the configuration in deploy/nginx."""

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from huggingface_hub import InferenceClient, close_session
from PIL.Image import Image
from playwright.sync_api import expect

from api.settings import ApiSettings
from deploy.local.servers import LOOPBACK
from deploy.local.stack import Stack
from tests.integration.test_http_server import EchoServer
from tests.support.chromium import open_browser, open_page
from tests.support.environment import copy_environment
from tests.support.images import cat, jpeg
from tests.support.nginx import CONFIGURATION, PREFIX, PROGRAM, Nginx
from tests.support.polling import wait_until
from tests.support.raw_gateway import RawGateway

MAX_BODY_BYTES = 2_000_000
CHANGES: dict[str, dict[str, str]] = {
    "the prefix is left": {},
    "the prefix is removed": {"proxy_pass http://maskmill;": "proxy_pass http://maskmill/;"},
}
# What no client may choose.
HOSTILE = {
    "X-Forwarded-Prefix": "//evil.example",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "javascript",
    "X-Forwarded-For": '"192.0.2.1',
    "Forwarded": "host=evil.example",
}

pytestmark = pytest.mark.skipif(PROGRAM is None and "CI" not in os.environ, reason="nginx is not installed")


@pytest.fixture(scope="module")
def gateway(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawGateway]:
    """One more gateway of the shared stack, which trusts the proxy on loopback."""
    plain = copy_environment()
    settings = {
        "MASKMILL_TRUSTED_PROXIES": LOOPBACK,
        "MASKMILL_PROCESSES": "1",
        "MASKMILL_METRICS_BIND": "off",
        "MASKMILL_MAX_UPLOAD_BYTES": str(MAX_BODY_BYTES),
    }
    with RawGateway(tmp_path_factory.mktemp("gateway"), {**plain, **stack.env, **settings}) as process:
        yield process.wait_ready()


@pytest.fixture(scope="module", params=CHANGES.values(), ids=list(CHANGES))
def nginx(
    gateway: RawGateway, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("nginx"), gateway.port, request.param) as process:
        yield process.wait_ready()


def submit(nginx: Nginx, path: str = "/v1/jobs", **headers: str) -> Any:
    answer = nginx.ask(f"{PREFIX}{path}", method="POST", body=jpeg(cat()), headers=headers)
    assert answer.status == 202
    assert answer.headers["location"] == json.loads(answer.body)["links"]["self"]
    return json.loads(answer.body)


def follow(nginx: Nginx, link: str) -> Any:
    """Follow a link as it stands in an answer, and return the JSON behind it."""
    assert link.startswith(f"{PREFIX}/")
    answer = nginx.ask(link)
    assert answer.status == 200
    return json.loads(answer.body)


@pytest.mark.parametrize("headers", [{}, HOSTILE], ids=["a client", "a hostile client"])
def test_every_link_of_a_job_and_its_result_leads_through_the_proxy(nginx: Nginx, headers: dict[str, str]) -> None:
    links = submit(nginx, **headers)["links"]

    job = follow(nginx, f"{links['self']}?wait=30")
    result = follow(nginx, job["links"]["result"])
    files = [result["overlay_url"], *(segment["mask_url"] for segment in result["segments"])]

    assert job["state"] == "succeeded"
    assert job["links"] == links
    assert result["segments"]
    assert all(link.startswith(f"{PREFIX}/v1/jobs/{job['id']}") for link in (*links.values(), *files))
    assert {nginx.ask(file).headers["content-type"] for file in files} == {"image/png"}


def test_a_list_of_jobs_has_links_and_a_further_page(nginx: Nginx) -> None:
    submitted = [submit(nginx)["links"]["self"] for _ in range(2)]

    newest = follow(nginx, f"{PREFIX}/v1/jobs?limit=1")
    next_page = follow(nginx, f"{PREFIX}/v1/jobs?limit=1&cursor={newest['next_cursor']}")

    assert [page["jobs"][0]["links"]["self"] for page in (newest, next_page)] == submitted[::-1]


@pytest.mark.parametrize("path", ["", "/", "/models/maskmill/embedded"])
def test_the_unchanged_hugging_face_client_gets_masks(nginx: Nginx, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(nginx.certificate))
    close_session()

    segments = InferenceClient(f"{nginx.url}{path}", token="none", timeout=60).image_segmentation(jpeg(cat()))

    close_session()
    assert segments
    assert {cast(Image, segment.mask).size for segment in segments} == {cat().size}


def test_a_synchronous_caller_may_ask_for_a_job(nginx: Nginx) -> None:
    links = submit(nginx, "/models/maskmill/embedded", Prefer="respond-async", **{"x-use-cache": "false"})["links"]

    assert follow(nginx, f"{links['self']}?wait=30")["state"] == "succeeded"


def test_the_events_of_a_job_come_through_the_proxy(nginx: Nginx) -> None:
    answer = nginx.ask(f"{submit(nginx)['links']['self']}/events")

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body.decode().rstrip().splitlines()[-2] == "event: succeeded"


def test_the_openapi_document_names_the_prefix_and_the_probes_answer(nginx: Nginx) -> None:
    assert follow(nginx, f"{PREFIX}/openapi.json")["servers"] == [{"url": PREFIX}]
    assert follow(nginx, f"{PREFIX}/healthz") == {"status": "ok"}
    assert follow(nginx, f"{PREFIX}/readyz")["status"] == "ok"


def test_an_error_has_the_sentence_of_the_gateway_and_the_id_of_the_client(nginx: Nginx) -> None:
    headers = {"X-Request-ID": "client-1"}
    too_large = nginx.ask(f"{PREFIX}/v1/jobs", method="POST", body=b"x" * (MAX_BODY_BYTES + 1), headers=headers)
    unknown = nginx.ask(f"{PREFIX}/v1/jobs/{'0' * 32}", headers=headers)
    foreign = nginx.ask(f"{PREFIX}/v1/jobs", headers={**headers, "Host": "evil.example"})

    errors = [json.loads(answer.body) for answer in (too_large, unknown, foreign)]
    assert [error["error_type"] for error in errors] == ["body_too_large", "unknown_job", "unknown_host"]
    assert {error["request_id"] for error in errors} == {"client-1"}


def test_a_page_below_the_same_name_may_call_and_a_foreign_one_may_not(nginx: Nginx) -> None:
    own = nginx.ask(f"{PREFIX}/v1/jobs", headers={"Origin": f"https://localhost:{nginx.port}"})
    foreign = nginx.ask(f"{PREFIX}/v1/jobs", headers={"Origin": "https://evil.example"})

    assert (own.status, foreign.status) == (200, 403)


def test_the_pages_work_below_the_prefix(nginx: Nginx) -> None:
    with open_browser() as browser, open_page(browser, ignore_https_errors=True) as watched:
        for path in ("", "/"):
            watched.page.goto(f"{nginx.url}{path}")
            expect(watched.page.get_by_role("heading", level=1)).to_be_visible()
        watched.page.get_by_role("link", name="Operations").click()
        expect(watched.page.get_by_role("heading", name="Models and workers")).to_be_visible()

        assert watched.page.url == f"{nginx.url}/ui/ops"
        assert {url.startswith(nginx.url) for url in watched.requests} == {True}
        assert watched.complaints == []


def test_a_client_may_speak_http_2(nginx: Nginx) -> None:
    command = [
        "curl",
        "-sS",
        "--http2",
        "--cacert",
        str(nginx.certificate),
        "--write-out",
        "%{http_version} %{http_code}",
    ]

    written = subprocess.run(
        [*command, "--output", os.devnull, f"{nginx.url}/v1/jobs"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )

    # The name in it is that of HTTP/2's `:authority`.
    assert written.stdout == "2 200"


def test_the_log_names_the_client_and_not_what_it_claims(nginx: Nginx, gateway: RawGateway) -> None:
    request_id = f"claims-{nginx.port}"

    nginx.ask(f"{PREFIX}/v1/jobs", headers={**HOSTILE, "X-Request-ID": request_id})

    # The line is written after the response is sent.
    wait_until(lambda: request_id in gateway.log.read_text())
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if request_id in line]
    assert [line["peer"] for line in lines] == [LOOPBACK]


def test_a_client_that_leaves_is_noticed(tmp_path: Path) -> None:
    with EchoServer(tmp_path, trusted_proxies=LOOPBACK) as server:
        server.wait_ready()
        with Nginx(tmp_path, server.port, {}) as nginx:
            connection = nginx.wait_ready().connect()
            connection.request("GET", f"{PREFIX}/wait/15.0")
            threading.Timer(0.3, connection.close).start()

            wait_until(lambda: "gone=True" in server.log.read_text(), seconds=8)


def test_its_times_fit_those_of_the_gateway() -> None:
    text = CONFIGURATION.read_text()
    settings = ApiSettings()
    keep_alive, answer = (
        float(re.search(rf"\b{name} (\d+)s;", text)[1]) for name in ("keepalive_timeout", "proxy_read_timeout")
    )

    assert keep_alive < settings.keep_alive_seconds
    assert answer > max(settings.sync_deadline_seconds, settings.max_waiting_seconds)
