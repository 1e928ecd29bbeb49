"""The page for photos: what is done with a shown photo, and with the photos of before."""

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect

from deploy.local.stack import Stack
from tests.support.chromium import open_page
from tests.support.page import (
    MILLISECONDS,
    PHOTO,
    SAMPLES,
    add_photos,
    expect_picture,
    freeze,
    open_with_token,
    paste_file,
    wait_for_segments,
)
from tests.support.polling import wait_until

# The gallery reads so many jobs at once.
PAGE = 24
# Returns the picture in the clipboard in base64.
_READ_CLIPBOARD = """async () => {
    const [item] = await navigator.clipboard.read();
    const bytes = new Uint8Array(await (await item.getType("image/png")).arrayBuffer());
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}"""


@pytest.fixture
def picture(done: Page) -> Locator:
    return done.locator(".picture")


@pytest.fixture
def canceled_jobs(page_service: Stack) -> Iterator[int]:
    """More jobs than the gallery reads at once, and how many there are; none was computed."""
    count = PAGE + 6
    client = page_service.client
    with freeze(page_service.worker.pid):
        for _ in range(count):
            job = client.request("POST", "/v1/jobs", PHOTO.read_bytes()).raise_for_status().json()
            client.request("DELETE", f"/v1/jobs/{job['id']}").raise_for_status()
    yield count


def test_a_cut_out_is_copied_to_the_clipboard_as_it_is_saved(done: Page) -> None:
    done.context.grant_permissions(["clipboard-read", "clipboard-write"])
    done.locator(".segment").first.click()
    with done.expect_download() as caught:
        done.get_by_role("button", name="Cut out").click()

    done.get_by_role("toolbar").get_by_role("button", name="Copy").click()
    expect(done.get_by_text("The cut-out is in the clipboard.")).to_be_attached(timeout=MILLISECONDS)
    copied = read_rgba(base64.b64decode(done.evaluate(_READ_CLIPBOARD)))

    saved = read_rgba(caught.value.path().read_bytes())
    assert (copied[..., 3] == saved[..., 3]).all()
    opaque = saved[..., 3] == 255
    assert (copied[opaque] == saved[opaque]).all()


def test_a_pasted_photo_is_segmented(page: Page) -> None:
    paste_file(page, PHOTO)

    wait_for_segments(page)
    expect(page.get_by_role("heading", name=PHOTO.name)).to_be_visible()


@pytest.mark.parametrize("title", ["A cat"])
def test_a_sample_is_segmented(page: Page, title: str) -> None:
    page.get_by_role("button", name=title).click()

    wait_for_segments(page)
    expect(page.get_by_role("heading", name="cat.jpg")).to_be_visible()


def test_opacity_outlines_and_background_change_the_picture(done: Page, picture: Locator) -> None:
    seen = [expect_picture(picture, is_colorful)]

    done.get_by_label("Opacity of the masks").fill("1")
    seen.append(expect_picture(picture, lambda shown: shown not in seen))
    done.get_by_label("Outlines").uncheck()
    seen.append(expect_picture(picture, lambda shown: shown not in seen))
    done.get_by_label("Opacity of the masks").fill("0")
    seen.append(expect_picture(picture, lambda shown: shown not in seen))
    done.locator(".segment").first.click()
    for background in ("blur", "gray", "transparent"):
        done.get_by_label("Background").select_option(background)
        seen.append(expect_picture(picture, lambda shown: shown not in seen))

    assert len(set(seen)) == len(seen)


def test_a_photo_that_cannot_be_read_does_not_show_the_one_before(done: Page, picture: Locator, tmp_path: Path) -> None:
    expect_picture(picture, is_colorful)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")

    add_photos(done, broken)
    expect(done.get_by_role("heading", name=broken.name)).to_be_visible()

    expect_picture(picture, lambda shown: not is_colorful(shown))


def test_older_photos_come_on_request_and_are_filtered_by_state(
    browser: Browser, page_service: Stack, canceled_jobs: int
) -> None:
    with open_page(browser) as watched:
        page = watched.page
        open_with_token(page, page_service.url)
        tiles = page.locator(".tile.photo")
        expect(tiles).to_have_count(PAGE)

        page.get_by_role("button", name="Show older").click()
        page.get_by_label("Show photos of this state").select_option("canceled")

        wait_until(lambda: tiles.count() >= canceled_jobs, "the canceled photos")
        page.get_by_label("Show photos of this state").select_option("succeeded")
        expect(page.get_by_role("button", name="Canceled")).to_have_count(0)


def test_a_photo_that_is_refused_for_now_is_sent_again_by_itself(page: Page) -> None:
    refusals = []

    def refuse_once(route: Route) -> None:
        if refusals or route.request.method != "PUT":
            return route.continue_()
        refusals.append(route.request.url)
        body = {"error": "The queue is full.", "error_type": "queue_full"}
        return route.fulfill(status=429, headers={"Retry-After": "2"}, json=body)

    page.route("**/v1/jobs/*?*", refuse_once)
    add_photos(page, SAMPLES / "coffee.jpg")

    expect(page.locator(".photo-state")).to_contain_text("The queue is full")
    expect(page.locator(".photo-state")).to_contain_text("Again in")
    wait_for_segments(page)
    assert len(refusals) == 1


def read_rgba(content: bytes) -> NDArray[np.uint8]:
    """Return the pixels (h, w, 4) of a picture."""
    return np.asarray(Image.open(BytesIO(content)).convert("RGBA"))


def is_colorful(screenshot: bytes) -> bool:
    """Return whether there is more to see than one colour."""
    pixels = read_rgba(screenshot).reshape(-1, 4)
    _, counts = np.unique(pixels, axis=0, return_counts=True)
    return bool(counts.max() < 0.9 * len(pixels))
