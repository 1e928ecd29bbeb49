"""Attacks of web pages on a gateway without tokens, by a real browser; skipped where there is none.

A browser is `chromium` or `google-chrome` on the PATH, or what BROWSER_FOR_TESTS names.  Every other test of these
attacks sends the headers that a browser sends; here the browser chooses them.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.local.servers import LOOPBACK
from tests.conftest import Storage
from tests.support.browser import open_page
from tests.support.polling import wait_until
from tests.support.raw_gateway import RawGateway, build_environment

BROWSERS = (os.environ.get("BROWSER_FOR_TESTS", ""), "chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in BROWSERS if name and (found := shutil.which(name))), None)
EVIL = "evil.example"
SHADOW_TEXT = "document.querySelector('rapi-doc')?.shadowRoot?.textContent ?? ''"
# How long the scripts of a page run.
SECONDS = 2.0
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
    "an event source": "<script>new EventSource('http://{gateway}/v1/jobs')</script>",
}

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser is installed")


class PageHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write no log."""


@dataclass(frozen=True)
class Browser:
    """A browser, a server of pages from a folder, and the gateway that they are about."""

    folder: Path
    pages: ThreadingHTTPServer
    gateway: RawGateway

    def load(self, url: str) -> str:
        """Return the document of a page after its scripts have run."""
        resolve = f"--host-resolver-rules=MAP {EVIL} {LOOPBACK}"
        with open_page(str(BROWSER), self.folder / "profile", resolve) as page:
            return page.load(url, seconds=SECONDS)

    def attack(self, page: str, *, host: str = EVIL) -> str:
        """Return the document of a page of this host."""
        text = page.format(gateway=f"{LOOPBACK}:{self.gateway.port}")
        (self.folder / "page.html").write_text(f"<!doctype html><body>{text}</body>")
        return self.load(f"http://{host}:{self.pages.server_port}/page.html")

    def list_answers(self) -> list[Mapping[str, object]]:
        """Return the requests that the gateway has logged, probes of the test excepted."""
        lines = [json.loads(line) for line in self.gateway.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == "request_answered" and line["route"] != "/healthz"]


@pytest.fixture
def browser(redis_url: str, storage: Storage, bucket_name: str, tmp_path: Path) -> Iterator[Browser]:
    env = {**build_environment(redis_url, storage, bucket_name), "MASKMILL_PROCESSES": "1"}
    pages = ThreadingHTTPServer((LOOPBACK, 0), partial(PageHandler, directory=tmp_path))
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    with RawGateway(tmp_path, env) as gateway:
        yield Browser(tmp_path, pages, gateway.wait_ready())
    pages.shutdown()
    pages.server_close()


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_foreign_page_gets_nothing_done(browser: Browser, attack: str) -> None:
    document = browser.attack(ATTACKS[attack])

    wait_until(browser.list_answers, "a request of the browser")
    assert {answer["status"] for answer in browser.list_answers()} == {403}
    assert "<title>READ" not in document


def test_a_name_that_was_made_to_resolve_to_loopback_is_refused(browser: Browser) -> None:
    document = browser.load(f"http://{EVIL}:{browser.gateway.port}/v1/jobs")

    assert "unknown_host" in document


def test_a_page_of_this_machine_may_read(browser: Browser) -> None:
    assert "<title>READ200<" in browser.attack(ATTACKS["a request to read"], host="localhost")


def test_a_page_of_this_machine_may_send_what_instrumentation_adds(browser: Browser) -> None:
    script = """<script>
        fetch('http://{gateway}/v1/jobs', {{headers: {{traceparent: '00-0-0-00', baggage: 'a=b', 'sentry-trace': '0-0',
            'X-Requested-With': 'XMLHttpRequest', 'cache-control': 'no-cache'}}}})
        .then(answer => document.title = 'READ' + answer.status + (answer.headers.get('x-request-id') ? 'ID' : ''))
        </script>"""

    assert "<title>READ200ID<" in browser.attack(script, host="localhost")


def test_the_documentation_of_the_api_is_drawn(browser: Browser) -> None:
    """Its own document is opened by RapiDoc, inside of a shadow tree."""
    url = f"http://{LOOPBACK}:{browser.gateway.port}/docs/api"
    with open_page(str(BROWSER), browser.folder / "profile") as page:
        page.load(url, seconds=SECONDS)
        wait_until(lambda: "Queue an image" in page.evaluate(SHADOW_TEXT), "the list of operations", seconds=20)
