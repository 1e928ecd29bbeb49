"""Attacks of web pages on a gateway without tokens, by a real browser; skipped where there is none.

Every other test of these attacks sends the headers that a browser sends; here the browser chooses them.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from deploy.local.servers import LOOPBACK
from tests.conftest import Storage
from tests.support.chromium import Watched, open_browser, open_page, wait_until_quiet
from tests.support.polling import wait_until
from tests.support.raw_gateway import RawGateway, build_environment, build_get

EVIL = "evil.example"
PROBE = "/v1/queue"
# {gateway}: its address; a script puts what it could read into the page.
ATTACKS = {
    "a submission without a preflight": """<script>
        fetch('http://{gateway}/v1/jobs', {{method: 'POST', mode: 'no-cors', body: 'GIF89a'}})</script>""",
    "a submission with a preflight": """<script>
        fetch('http://{gateway}/v1/jobs', {{method: 'POST', headers: {{'Content-Type': 'image/png'}}, body: 'x'}})
        .then(answer => document.title = 'READ' + answer.status)</script>""",
    "a form": """<form method=post enctype=multipart/form-data action='http://{gateway}/v1/jobs'>
        <input name=inputs value=x></form><script>document.forms[0].submit()</script>""",
    "a form in a sandboxed frame": """<iframe sandbox='allow-forms allow-scripts' srcdoc="<form method=post
        enctype=text/plain action='http://{gateway}/v1/jobs'><input name=x></form>
        <script>document.forms[0].submit()</script>"></iframe>""",
    "a beacon": "<script>navigator.sendBeacon('http://{gateway}/v1/jobs', 'x')</script>",
    "a cancellation": """<script>
        fetch('http://{gateway}/v1/jobs/00000000000000000000000000000000', {{method: 'DELETE'}})</script>""",
    "a request to read": """<script>
        fetch('http://{gateway}/v1/jobs').then(answer => document.title = 'READ' + answer.status)</script>""",
    "an image": "<img src='http://{gateway}/v1/jobs'>",
    "a script": "<script src='http://{gateway}/v1/models'></script>",
    "a frame": "<iframe src='http://{gateway}/v1/jobs'></iframe>",
    "a web socket": "<script>new WebSocket('ws://{gateway}/v1/jobs')</script>",
    "a frame with the page for photos": "<iframe src='http://{gateway}/'></iframe>",
    "a script of the pages": "<script src='http://{gateway}/ui/static/0/modules/api.js' type=module></script>",
    "an upload": """<script>
        fetch('http://{gateway}/v1/uploads', {{method: 'POST', mode: 'no-cors', body: '{{}}'}})</script>""",
    "an event source": "<script>new EventSource('http://{gateway}/v1/jobs')</script>",
}


class PageHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write no log."""


@dataclass(frozen=True)
class Scene:
    """A browser, a server of hostile pages from a folder, and the gateway that they are about."""

    browser: Browser
    folder: Path
    pages: ThreadingHTTPServer
    gateway: RawGateway

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.gateway.port}"

    def write(self, page: str, *, host: str = EVIL) -> str:
        """Return the address of a page of this host."""
        text = page.format(gateway=f"{LOOPBACK}:{self.gateway.port}")
        (self.folder / "page.html").write_text(f"<!doctype html><body>{text}</body>")
        return f"http://{host}:{self.pages.server_port}/page.html"

    def list_answers(self) -> list[Mapping[str, object]]:
        """Return the requests that the gateway has logged, but for probes of the test, and icons that it lacks."""
        answers = [line for line in self.read_log() if line["route"] not in ("/healthz", PROBE)]
        return [line for line in answers if (line["route"], line["status"]) != ("none", 404)]

    def wait_logged(self) -> None:
        """Wait until the log has every request that the gateway has answered: that of a probe is the last one."""
        before = len(self.read_log())
        assert self.gateway.send(build_get(PROBE, "Host: localhost"))[0] == 200
        wait_until(lambda: PROBE in [line["route"] for line in self.read_log()[before:]], "the probe in the log")

    def read_log(self) -> list[Mapping[str, object]]:
        lines = [json.loads(line) for line in self.gateway.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == "request_answered"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser(f"--host-resolver-rules=MAP {EVIL} {LOOPBACK}") as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadingHTTPServer]:
    folder = tmp_path_factory.mktemp("pages")
    server = ThreadingHTTPServer((LOOPBACK, 0), partial(PageHandler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def scene(
    browser: Browser,
    pages: ThreadingHTTPServer,
    redis_url: str,
    storage: Storage,
    bucket_name: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    env = {**build_environment(redis_url, storage, bucket_name), "MASKMILL_PROCESSES": "1"}
    with RawGateway(tmp_path_factory.mktemp("gateway"), env) as gateway:
        folder = Path(pages.RequestHandlerClass.keywords["directory"])  # type: ignore[attr-defined]
        yield Scene(browser, folder, pages, gateway.wait_ready())


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    with open_page(browser) as opened:
        yield opened


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_foreign_page_gets_nothing_done(scene: Scene, watched: Watched, attack: str) -> None:
    before = len(scene.list_answers())

    watched.page.goto(scene.write(ATTACKS[attack]), wait_until="commit")

    wait_until(lambda: len(scene.list_answers()) > before, "a request of the browser")
    wait_until_quiet(watched)
    scene.wait_logged()
    assert {answer["status"] for answer in scene.list_answers()[before:]} == {403}
    assert "READ" not in watched.page.title()


@pytest.mark.parametrize("path", ["/", "/ui/ops", "/v1/jobs"])
def test_a_name_that_was_made_to_resolve_to_loopback_is_refused(scene: Scene, page: Page, path: str) -> None:
    response = page.goto(f"http://{EVIL}:{scene.gateway.port}{path}")

    assert response is not None and response.status == 421
    assert "unknown_host" in page.content()


def test_a_foreign_page_may_link_to_the_page_and_has_no_hold_on_it(scene: Scene, page: Page) -> None:
    page.goto(scene.write("<a href='http://{gateway}/' target=_blank rel=opener>Masks</a>"))

    with page.expect_popup() as opened:
        page.get_by_text("Masks").click()

    expect(opened.value.get_by_role("heading", level=1)).to_be_visible()
    assert opened.value.evaluate("window.opener") is None


def test_a_page_of_this_machine_may_read(scene: Scene, page: Page) -> None:
    page.goto(scene.write(ATTACKS["a request to read"], host="localhost"))

    expect(page).to_have_title("READ200")


def test_a_page_of_this_machine_may_send_what_instrumentation_adds(scene: Scene, page: Page) -> None:
    script = """<script>
        fetch('http://{gateway}/v1/jobs', {{headers: {{traceparent: '00-0-0-00', baggage: 'a=b', 'sentry-trace': '0-0',
            'X-Requested-With': 'XMLHttpRequest', 'cache-control': 'no-cache'}}}})
        .then(answer => document.title = 'READ' + answer.status + (answer.headers.get('x-request-id') ? 'ID' : ''))
        </script>"""

    page.goto(scene.write(script, host="localhost"))

    expect(page).to_have_title("READ200ID")


UPLOAD = """<script>
    fetch('http://{gateway}/v1/jobs', {{method: 'POST', body: new Blob(['GIF89a'], {{type: 'image/gif'}})}})
    .then(answer => document.title = 'READ' + answer.status).catch(() => document.title = 'BLOCKED')</script>"""


def test_an_upload_from_another_origin_needs_that_cors_allows_it(
    browser: Browser,
    pages: ThreadingHTTPServer,
    redis_url: str,
    storage: Storage,
    bucket_name: str,
    tmp_path: Path,
    scene: Scene,
    page: Page,
) -> None:
    allowed = f"http://{EVIL}:{pages.server_port}"
    env = {**build_environment(redis_url, storage, bucket_name), "MASKMILL_PROCESSES": "1"}
    page.goto(scene.write(UPLOAD))
    expect(page).to_have_title("BLOCKED")

    with RawGateway(tmp_path, {**env, "MASKMILL_CORS_ORIGINS": allowed}) as gateway:
        friendly = Scene(browser, scene.folder, pages, gateway.wait_ready())
        page.goto(friendly.write(UPLOAD))
        # Its six bytes are no image; the page may read that.
        expect(page).to_have_title("READ400")
        page.goto(friendly.write(UPLOAD, host="localhost"))
        expect(page).to_have_title("BLOCKED")
