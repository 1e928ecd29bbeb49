"""Debian's Chromium, driven by Playwright, for tests of the pages; Playwright's own browsers are not installed.

A browser is `chromium` or `google-chrome` on the PATH, or what BROWSER_FOR_TESTS names.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, WebSocket, sync_playwright

from tests.conformance.forms import require_client
from tests.conformance.install import page_folder
from tests.support.polling import wait_until

BROWSERS = (os.environ.get("BROWSER_FOR_TESTS", ""), "chromium", "chromium-browser", "google-chrome")
# CI runs as root and in containers, where Chromium's own sandbox and a large /dev/shm are missing.
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage")


def find_browser() -> str:
    """Return the path of a browser; without one the test is skipped, but not in CI, or its green would mean nothing."""
    found = next((path for name in BROWSERS if name and (path := shutil.which(name))), None)
    if found is None:
        assert "CI" not in os.environ, "CI must have chromium"
        pytest.skip("no browser is installed")
    return found


@contextmanager
def open_browser(*arguments: str) -> Iterator[Browser]:
    """Run a browser.  Playwright has an event loop on this thread meanwhile, so no test may run asyncio beside it."""
    path = find_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class Watched:
    """A page, and all that it has complained of.

    complaints: warnings and errors in its console, exceptions of its scripts, and requests that failed.
    requests: their URLs.  under_way: those that have not ended, and its open web sockets.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    under_way: set[Request | WebSocket] = field(default_factory=set)

    def hear_console(self, message: ConsoleMessage) -> None:
        if message.type in ("warning", "error"):
            self.complaints.append(f"{message.type}: {message.text}")

    def hear_request(self, request: Request) -> None:
        self.requests.append(request.url)
        self.under_way.add(request)

    def hear_socket(self, socket: WebSocket) -> None:
        self.under_way.add(socket)
        socket.on("close", lambda _: self.under_way.discard(socket))

    def hear_failure(self, request: Request) -> None:
        self.under_way.discard(request)
        # Requests that the page itself has given up, such as a stream of events, fail so too.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed: {request.url} {request.failure}")


@contextmanager
def open_page(browser: Browser, **context: Any) -> Iterator[Watched]:
    """Open a page in a context of its own, with the options of Browser.new_context(): viewport, color_scheme, ..."""
    opened = browser.new_context(**context)
    page = opened.new_page()
    watched = Watched(page)
    # Playwright sets an attribute on the object of a method that it is given.
    page.on("console", lambda message: watched.hear_console(message))
    page.on("pageerror", lambda error: watched.complaints.append(f"exception: {error}"))
    page.on("requestfailed", lambda request: watched.hear_failure(request))
    page.on("request", lambda request: watched.hear_request(request))
    page.on("requestfinished", lambda request: watched.under_way.discard(request))
    page.on("websocket", lambda socket: watched.hear_socket(socket))
    try:
        yield watched
    finally:
        opened.close()


def wait_until_quiet(watched: Watched) -> None:
    """Wait until all requests of a page have ended, and its scripts have had their turn with what came of them."""

    def is_quiet() -> bool:
        # Playwright tells of events while it is called.
        watched.page.wait_for_timeout(1)
        if watched.under_way:
            return False
        watched.page.evaluate("new Promise(turn => setTimeout(turn))")
        return not watched.under_way

    wait_until(is_quiet, "the end of the page's requests")


def keep_picture(page: Page, name: str) -> None:
    """Write a picture of the whole page into the folder that PICTURES_OF_PAGES names, if it is set."""
    folder = os.environ.get("PICTURES_OF_PAGES")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def find_barriers(page: Page) -> list[str]:
    """Return what axe-core finds on a page that keeps people from using it: serious and critical violations."""
    page.evaluate(_read_axe())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {violation['help']}: {[node['target'] for node in violation['nodes']]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


def _read_axe() -> str:
    return (require_client(page_folder) / "node_modules" / "axe-core" / "axe.min.js").read_text()
