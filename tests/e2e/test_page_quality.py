"""The page for photos: reached by all, quick, light, and its programs run as they stand there."""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from deploy.local.stack import Stack
from tests.support.chromium import find_barriers, open_page
from tests.support.page import (
    MILLISECONDS,
    PHOTO,
    SAMPLES,
    TOKEN,
    add_photos,
    open_with_token,
    press_until,
    show_instances,
    time_slider,
    wait_for_segments,
)

KILOBYTE = 1000
_LOADED = """() => performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
    .filter(one => !one.name.includes("/samples/") && !one.name.includes("/v1/"))
    .reduce((sum, one) => sum + one.encodedBodySize, 0)"""
_FIRST_PAINT = """() => new Promise(found => new PerformanceObserver(
    list => list.getEntriesByName("first-contentful-paint").forEach(one => found(one.startTime))
).observe({ type: "paint", buffered: true }))"""
VIEWPORTS = ({"width": 390, "height": 844}, {"width": 1440, "height": 900})


def test_all_is_done_with_the_keyboard(page: Page) -> None:
    with page.expect_file_chooser() as chooser:
        press_until(page, "Tab", "Choose photos")
        page.keyboard.press("Enter")
    chooser.value.set_files(PHOTO)
    wait_for_segments(page)

    press_until(page, "Tab", "Threshold")
    before = page.locator("#slider-threshold").input_value()
    page.keyboard.press("ArrowRight")
    assert page.locator("#slider-threshold").input_value() > before
    rows = page.locator(".segment")
    # With its share and score: a label to filter by has the same name.
    press_until(page, "Tab", rows.first.inner_text().strip())
    page.keyboard.press("ArrowDown")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(rows.nth(1)).to_have_attribute("aria-pressed", "true")
    press_until(page, "Shift+Tab", "Download")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Download")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Download", exact=True)).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, page_service: Stack, scheme: str) -> None:
    for viewport in VIEWPORTS:
        with open_page(browser, viewport=viewport, color_scheme=scheme, reduced_motion="reduce") as watched:
            page = watched.page
            open_with_token(page, page_service.url)
            found = find_barriers(page)
            add_photos(page, PHOTO)
            wait_for_segments(page).nth(1).click()
            found += find_barriers(page)
            for name in ("Download", "Code"):
                page.get_by_role("button", name=name, exact=True).click()
                found += find_barriers(page)
                page.keyboard.press("Escape")
            page.get_by_role("button", name="Compare").click()
            found += find_barriers(page)

        assert found == []


def test_the_page_is_painted_soon_and_is_light(browser: Browser, page_service: Stack) -> None:
    with open_page(browser) as watched:
        open_with_token(watched.page, page_service.url)

        milliseconds = watched.page.evaluate(_FIRST_PAINT)
        weight = watched.page.evaluate(_LOADED)

    print(f"first paint after {milliseconds:.0f} ms, {weight / KILOBYTE:.0f} kB compressed")
    assert milliseconds < 1000
    assert weight < 200 * KILOBYTE


def test_the_picture_follows_a_slider_at_once(page: Page, tmp_path: Path) -> None:
    add_photos(page, write_full_hd(tmp_path / "crowd.jpg"))
    wait_for_segments(page)
    show_instances(page)
    expect(page.locator(".sliders")).to_have_attribute("aria-busy", "false")

    measured = [time_slider(page, "threshold", 0.05 + 0.04 * (step % 2)) for step in range(8)]

    totals, requests = [one["total"] for one in measured], [one["wait"] for one in measured]
    print(
        f"{page.locator('.segment').count()} segments of 1920 x 1080 are in the picture after {min(totals):.0f} ms, "
        f"median {median(totals):.0f} ms; of these the request takes {median(requests):.0f} ms"
    )
    # The aim is 150 ms, on a machine that does nothing else; CI shares its cores.
    assert min(totals) < 600


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_a_copied_program_makes_the_same_request(done: Page, tmp_path: Path, language: str) -> None:
    done.get_by_role("button", name="Code", exact=True).click()
    done.get_by_role("dialog", name="This request as code").get_by_text(language, exact=True).click()
    program = done.locator("dialog[open] pre").inner_text()
    (tmp_path / "photo.jpg").write_bytes(PHOTO.read_bytes())
    file = tmp_path / "program.mjs"
    file.write_text(program)
    command = {"curl": ["sh", "-e", file], "Python": [sys.executable, file], "JavaScript": ["node", file]}[language]

    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "MASKMILL_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert TOKEN not in program
    assert (tmp_path / "coco.json").read_text().count('"segmentation"') == done.locator(".segment").count()


@pytest.mark.parametrize(("width", "height"), [(6000, 4000), (400, 8000)])
def test_a_photo_of_unusual_size_is_shown(page: Page, tmp_path: Path, width: int, height: int) -> None:
    photo = cv2.resize(cv2.imread(str(SAMPLES / "astronaut.jpg")), (width, height), interpolation=cv2.INTER_LINEAR)
    file = tmp_path / "large.jpg"
    cv2.imwrite(str(file), photo, [cv2.IMWRITE_JPEG_QUALITY, 60])

    add_photos(page, file)
    wait_for_segments(page)

    expect(page.get_by_text(f"{width} × {height}")).to_be_visible(timeout=MILLISECONDS)


def write_full_hd(file: Path) -> Path:
    """Write a photo of 1920 x 1080 with much in it: eight photos side by side."""
    photos = [cv2.imread(str(SAMPLES / f"{name}.jpg")) for name in ("astronaut", "photographer", "cat", "coffee")]
    tiles = [cv2.resize(photo, (480, 540)) for photo in (*photos, *reversed(photos))]
    cv2.imwrite(str(file), np.vstack([np.hstack(tiles[:4]), np.hstack(tiles[4:])]))
    return file
