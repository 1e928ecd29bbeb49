"""The page for photos, opened in a browser: one stack and one browser for all its tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.environment import copy_environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from deploy.local.stack import Stack
    from tests.support.chromium import Watched


@pytest.fixture(scope="session")
def page_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole service, which asks for a token and takes small files."""
    from deploy.local.stack import Stack
    from tests.support.page import MAX_UPLOAD_BYTES, TOKEN

    settings = {"MASKMILL_TOKENS": f"tester:{TOKEN}", "MASKMILL_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES)}
    with Stack(tmp_path_factory.mktemp("page"), environ={**copy_environment(), **settings}) as running:
        yield running.start()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from tests.support.chromium import open_browser

    with open_browser() as running:
        yield running


@pytest.fixture
def watched(browser: Browser, page_service: Stack) -> Iterator[Watched]:
    """The page, with the token entered, before any photo was added."""
    from tests.support.chromium import open_page
    from tests.support.page import open_with_token

    with open_page(browser, viewport={"width": 1440, "height": 900}) as opened:
        open_with_token(opened.page, page_service.url)
        yield opened


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


@pytest.fixture
def done(page: Page) -> Page:
    """The page with the segments of a photo."""
    from tests.support.page import PHOTO, add_photos, wait_for_segments

    add_photos(page, PHOTO)
    wait_for_segments(page)
    return page
