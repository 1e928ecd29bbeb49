"""The pages in a real browser from a real gateway: they load, from this service alone, and complain of nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from deploy.local.servers import LOOPBACK
from tests.conftest import Storage
from tests.support.chromium import open_browser, open_page
from tests.support.raw_gateway import RawGateway, build_environment


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as running:
        yield running


@pytest.fixture
def address(redis_url: str, storage: Storage, bucket_name: str, tmp_path: Path) -> Iterator[str]:
    env = {**build_environment(redis_url, storage, bucket_name), "MASKMILL_PROCESSES": "1"}
    with RawGateway(tmp_path, env) as gateway:
        gateway.wait_ready()
        yield f"http://{LOOPBACK}:{gateway.port}"


@pytest.mark.parametrize("path", ["/", "/ui/ops"])
def test_a_page_loads_from_this_service_alone_and_complains_of_nothing(
    browser: Browser, address: str, path: str
) -> None:
    with open_page(browser) as watched:
        watched.page.goto(address + path)
        watched.page.get_by_role("heading", level=1).wait_for(timeout=5000)

        assert watched.complaints == []
        assert {url.startswith((address, "blob:", "data:")) for url in watched.requests} == {True}
        assert watched.page.context.cookies() == []
