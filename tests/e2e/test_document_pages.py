"""The documents and the reference of the API in a browser, from a phone to a desk, in light and dark."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from deploy.local.servers import LOOPBACK
from tests.conftest import Storage
from tests.support.chromium import find_barriers, keep_picture, open_page
from tests.support.raw_gateway import RawGateway, build_environment

WIDTHS = (390, 820, 1440)
# The list; one with code, with lists, with many tables, with a wide drawing; and the reference.
PAGES: Mapping[str, str] = {
    "docs": "/docs",
    "docs-tutorial": "/docs/tutorial",
    "docs-operating": "/docs/operating",
    "docs-settings": "/docs/reference/settings",
    "docs-architecture": "/docs/architecture",
    "docs-api": "/docs/api",
}


@pytest.fixture(scope="module")
def address(
    redis_url: str, storage: Storage, bucket_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    env = {**build_environment(redis_url, storage, bucket_name), "MASKMILL_PROCESSES": "1"}
    with RawGateway(tmp_path_factory.mktemp("gateway"), env) as gateway:
        gateway.wait_ready()
        yield f"http://{LOOPBACK}:{gateway.port}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_document_fits_screens_and_has_no_barriers(browser: Browser, address: str, name: str, scheme: Any) -> None:
    for width in WIDTHS:
        with open_page(browser, viewport={"width": width, "height": 900}, color_scheme=scheme) as watched:
            page = watched.page
            page.goto(f"{address}{PAGES[name]}")

            keep_picture(page, f"{name}-{width}-{scheme}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert find_barriers(page) == []
            assert watched.complaints == []


def test_the_list_of_documents_is_beside_the_text_where_there_is_room(browser: Browser, address: str) -> None:
    with open_page(browser, viewport={"width": 1440, "height": 900}) as watched:
        page = watched.page
        page.goto(f"{address}/docs/tutorial")
        contents = page.get_by_role("navigation", name="Documents")

        expect(contents.get_by_role("link", name="Tutorial")).to_have_attribute("aria-current", "page")
        contents.get_by_role("link", name="How to upgrade").click()
        expect(page.get_by_role("heading", level=1, name="How to upgrade")).to_be_visible()

        page.set_viewport_size({"width": 390, "height": 844})
        expect(contents).to_be_hidden()
        page.get_by_role("link", name="All documents").click()
        expect(page.get_by_role("heading", level=1, name="Documents")).to_be_visible()


def test_a_route_is_found_and_leads_to_the_object_that_it_answers(browser: Browser, address: str) -> None:
    with open_page(browser, viewport={"width": 1440, "height": 900}) as watched:
        page = watched.page
        page.goto(f"{address}/docs/api")

        page.get_by_role("navigation", name="Routes").get_by_role(
            "link", name="GET /v1/jobs/{job_id}", exact=True
        ).click()
        section = page.get_by_role("region", name="GET /v1/jobs/{job_id}", exact=True)
        expect(section).to_be_in_viewport()
        section.get_by_role("link", name="JobView").first.click()

        expect(page.get_by_role("heading", name="JobView", exact=True)).to_be_in_viewport()
