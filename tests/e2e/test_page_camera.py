"""The page for photos on a phone: its button for the camera, which the browser opens instead of a choice of files."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from deploy.local.stack import Stack
from tests.support.chromium import open_page
from tests.support.page import PHOTO, open_with_token, wait_for_segments


@pytest.fixture
def phone(browser: Browser, page_service: Stack) -> Iterator[Page]:
    """The page under a finger."""
    with open_page(browser, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as watched:
        open_with_token(watched.page, page_service.url)
        yield watched.page


def test_a_photo_is_taken_with_the_camera(phone: Page) -> None:
    with phone.expect_file_chooser() as chooser:
        phone.get_by_role("button", name="Take a photo").tap()
    # With these a phone opens the camera on its back; it gives one photo.
    asked = chooser.value.element.evaluate("input => [input.getAttribute('capture'), input.accept, input.multiple]")

    chooser.value.set_files(PHOTO)

    wait_for_segments(phone)
    expect(phone.get_by_role("heading", name=PHOTO.name)).to_be_visible()
    assert asked == ["environment", "image/*", False]


def test_that_no_photo_was_taken_changes_nothing(phone: Page) -> None:
    with phone.expect_file_chooser() as chooser:
        phone.get_by_role("button", name="Take a photo").tap()

    chooser.value.set_files([])

    expect(phone.get_by_role("button", name="Take a photo")).to_be_visible()
    expect(phone.get_by_role("heading", name="Drop a photo")).to_be_visible()


def test_a_mouse_is_offered_no_camera(page: Page) -> None:
    expect(page.get_by_role("button", name="Choose photos")).to_be_visible()
    expect(page.get_by_role("button", name="Take a photo")).to_be_hidden()
