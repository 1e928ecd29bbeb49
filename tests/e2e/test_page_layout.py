"""The page for photos from a phone to a desk, in light and dark: nothing is wider than the screen, or cut off."""

import pytest
from playwright.sync_api import Browser, Page, expect

from deploy.local.stack import Stack
from tests.support.chromium import keep_picture, open_page
from tests.support.page import MILLISECONDS, PHOTO, open_with_token, wait_for_segments

WIDTHS = (390, 820, 1440)
# Names what is wider than the screen, and buttons whose text does not fit.
_FIND_CUT_OFF = """() => [...document.querySelectorAll("body *")]
    .filter((one) => one.checkVisibility() && !one.closest(".visually-hidden, .tiles, pre, .wipe"))
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1
        || (one.matches("button, select, .segmented__item, .top__brand") && one.scrollWidth > one.clientWidth + 1))
    .map((one) => one.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def job(page_service: Stack) -> str:
    """The name under which the gallery has a finished job."""
    path = "/v1/jobs?recut=semantic&threshold=0.5&metadata=%7B%22name%22%3A%22A%20finished%20photo.jpg%22%7D"
    submitted = page_service.client.post(path, PHOTO.read_bytes()).json()
    assert page_service.client.get(f"/v1/jobs/{submitted['id']}?wait=30").json()["state"] == "succeeded"
    return "A finished photo.jpg"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off(browser: Browser, page_service: Stack, job: str, width: int, scheme: str) -> None:
    screen = {"width": width, "height": 900}
    with open_page(browser, viewport=screen, color_scheme=scheme, reduced_motion="reduce") as watched:
        page = watched.page
        open_with_token(page, page_service.url)
        look(page, f"first-{width}-{scheme}")
        page.get_by_role("button", name=job).first.click()
        wait_for_segments(page)
        expect(page.locator(".picture")).to_have_attribute("data-drawn", "wholly", timeout=MILLISECONDS)
        look(page, f"result-{width}-{scheme}")
        page.get_by_role("button", name="Download", exact=True).click()
        look(page, f"download-{width}-{scheme}")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Code", exact=True).click()
        look(page, f"code-{width}-{scheme}")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Compare").click()
        look(page, f"comparison-{width}-{scheme}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_of_the_dialog_for_a_token_is_cut_off(
    browser: Browser, page_service: Stack, width: int, scheme: str
) -> None:
    with open_page(browser, viewport={"width": width, "height": 900}, color_scheme=scheme) as watched:
        page = watched.page
        page.goto(page_service.url)
        page.locator("#token").fill("wrong")
        page.get_by_role("button", name="Use this token").click()
        expect(page.get_by_role("alert")).to_be_visible()
        look(page, f"token-{width}-{scheme}")


def look(page: Page, name: str) -> None:
    """Keep a picture, and check what is seen."""
    keep_picture(page, name)
    assert page.evaluate(_FIND_CUT_OFF) == [], name
