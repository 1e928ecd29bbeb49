"""The page for photos in a real browser, from the whole service with the embedded model: what its users do."""

import json
import os
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from deploy.local.stack import Stack
from tests.support.chromium import Watched, open_page
from tests.support.page import (
    MAX_UPLOAD_BYTES,
    MILLISECONDS,
    PHOTO,
    SAMPLES,
    TOKEN,
    add_photos,
    count_forward_passes,
    download,
    drop_file,
    expect_picture,
    freeze,
    list_complaints,
    move_slider,
    read_image,
    read_rows,
    show_instances,
    wait_for_segments,
)
from tests.support.polling import wait_until


def test_a_dropped_photo_shows_its_segments_and_complains_of_nothing(watched: Watched, page_service: Stack) -> None:
    page = watched.page

    drop_file(page, PHOTO)
    rows = wait_for_segments(page)

    [job] = page_service.client.get("/v1/jobs?limit=1").json()["jobs"]
    segments = page_service.client.get(f"/v1/jobs/{job['id']}/result").json()["segments"]
    assert rows.count() == len(segments) >= 3
    assert job["metadata"] == {"name": PHOTO.name}
    expect(page.get_by_role("heading", name=PHOTO.name)).to_be_visible()
    expect(page.get_by_text("Done in")).to_be_visible()
    assert list_complaints(watched) == []
    assert page.context.cookies() == []
    assert not any(TOKEN in url for url in watched.requests)


def test_a_moved_threshold_changes_the_list_and_not_the_counter_of_forward_passes(
    done: Page, page_service: Stack
) -> None:
    passes = count_forward_passes(page_service)
    before = show_instances(done)

    move_slider(done, "threshold", 0.9)
    expect(done.locator(".segment")).not_to_have_count(before)
    fewer = read_rows(done)
    move_slider(done, "threshold", 0.05)
    expect(done.locator(".segment")).not_to_have_count(len(fewer))

    assert len(fewer) < before <= done.locator(".segment").count()
    assert count_forward_passes(page_service) == passes


def test_the_kind_of_segments_is_a_switch(done: Page, page_service: Stack) -> None:
    passes = count_forward_passes(page_service)

    done.get_by_text("Semantic", exact=True).click()
    expect(done.locator(".segment-score").first).to_be_empty()

    # Segments of one label would have numbers.
    assert not [name for name, *_ in read_rows(done) if name[-1].isdigit()]
    assert count_forward_passes(page_service) == passes


def test_a_segment_is_isolated_and_cut_out(done: Page) -> None:
    row = done.locator(".segment").first
    name = row.locator(".segment-name").inner_text()

    row.click()
    expect(row).to_have_attribute("aria-pressed", "true")
    with done.expect_download() as caught:
        done.get_by_role("button", name="Cut out").click()

    assert caught.value.suggested_filename == f"photo.{name.removesuffix(' 1')}.png"
    pixels = read_image(caught.value.path())
    photo = read_image(PHOTO)
    opaque = pixels[..., 3] == 255
    share = float(row.locator(".segment-share").inner_text().removesuffix(" %")) / 100
    assert opaque.sum() == pytest.approx(share * photo.shape[0] * photo.shape[1], rel=0.05)
    assert (pixels[..., 3] == 0).any()


def test_labels_filter_the_list(done: Page) -> None:
    chip = done.get_by_role("group", name="Show only these labels").get_by_role("button").first
    label = chip.get_attribute("title")

    chip.click()

    expect(chip).to_have_attribute("aria-pressed", "true")
    assert {name.rstrip(" 0123456789") for name, *_ in read_rows(done)} == {label}


def test_the_list_is_sorted_by_area_or_by_score(done: Page) -> None:
    by_area = read_rows(done)
    done.get_by_label("Order of the segments").select_option("score")

    by_score = read_rows(done)

    assert sorted(by_area) == sorted(by_score)
    assert [row[2] for row in by_score] == sorted((row[2] for row in by_score), reverse=True)


def test_the_photo_is_zoomed_and_shown_whole_again(done: Page) -> None:
    picture = done.locator(".picture")
    whole = picture.screenshot()

    done.get_by_role("button", name="Zoom in").click()
    zoomed = expect_picture(picture, lambda shown: shown != whole)
    done.get_by_role("button", name="1:1").click()
    expect_picture(picture, lambda shown: shown != zoomed)
    done.get_by_role("button", name="Show the whole photo").click()

    expect_picture(picture, lambda shown: shown == whole)


def test_two_photos_are_segmented_at_once(page: Page, tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"
    other.write_bytes((SAMPLES / "astronaut.jpg").read_bytes())

    add_photos(page, PHOTO, other)

    for name in (PHOTO.name, other.name):
        tile = page.get_by_role("button", name=f"{name}, Done").first
        tile.wait_for(timeout=MILLISECONDS)
        tile.click()
        wait_for_segments(page)
        expect(page.get_by_role("heading", name=name)).to_be_visible()


def test_files_are_those_of_what_the_list_shows(done: Page) -> None:
    count = show_instances(done)
    rows = read_rows(done)
    coco = json.loads(download(done, "coco.json").read_text())
    names = zipfile.ZipFile(BytesIO(download(done, "masks.zip").read_bytes())).namelist()
    done.keyboard.press("Escape")
    move_slider(done, "threshold", 0.9)
    expect(done.locator(".segment")).not_to_have_count(count)
    fewer = done.locator(".segment").count()
    recut = json.loads(download(done, "coco.json").read_text())

    assert len(names) == count
    # What others cover has no pixels, and so no annotation.
    assert len(coco["annotations"]) == sum(share != "covered" for _, share, _ in rows)
    assert len(recut["annotations"]) <= fewer < count


def test_a_job_is_canceled(page: Page, page_service: Stack) -> None:
    with freeze(page_service.worker.pid):
        add_photos(page, PHOTO)
        expect(page.locator(".state-text")).to_contain_text("queue", ignore_case=True, timeout=MILLISECONDS)
        page.get_by_role("button", name="Cancel", exact=True).click()

        expect(page.locator(".state-text")).to_have_text("Canceled", timeout=MILLISECONDS)
    assert page_service.client.get("/v1/jobs?limit=1").json()["jobs"][0]["state"] == "canceled"


def test_an_upload_is_canceled(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    large = tmp_path / "large.jpg"
    large.write_bytes(PHOTO.read_bytes() + os.urandom(MAX_UPLOAD_BYTES // 2))
    tools = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000}
    tools.send("Network.emulateNetworkConditions", slow)

    add_photos(page, large)
    page.get_by_role("progressbar", name="Upload").wait_for()
    page.get_by_role("button", name="Cancel", exact=True).click()

    expect(page.locator(".state-text")).to_have_text("Canceled")
    expect(page.get_by_role("progressbar", name="Upload")).to_have_count(0)


def test_a_photo_that_is_canceled_before_its_answer_does_not_run_unseen(page: Page, page_service: Stack) -> None:
    # A worker would be done with it before it is canceled.
    with freeze(page_service.worker.pid):
        with freeze(page_service.gateway.pid):
            # All of a small file is sent, whether it is read or not.
            add_photos(page, SAMPLES / "coffee.jpg")
            page.get_by_role("button", name="Cancel", exact=True).click()
            expect(page.locator(".state-text")).to_have_text("Canceled")

        wait_until(lambda: read_newest(page_service) == ("coffee.jpg", "canceled"), "the job, and its end")
    assert page.locator(".photo.is-running").count() == 0


def read_newest(stack: Stack) -> tuple[str, str]:
    """Return the name and the state of the newest job."""
    [job] = stack.client.get("/v1/jobs?limit=1").json()["jobs"]
    return job["metadata"].get("name", ""), job["state"]


def test_a_file_that_is_no_photo_is_refused_in_plain_words(page: Page, tmp_path: Path) -> None:
    text, broken = tmp_path / "notes.txt", tmp_path / "broken.jpg"
    text.write_text("no photo")
    broken.write_bytes(b"no photo either")

    add_photos(page, text)
    expect(page.locator(".failure")).to_contain_text("This file is not a photo that can be read")
    add_photos(page, broken)

    expect(page.get_by_role("heading", name=broken.name)).to_be_visible()
    expect(page.locator(".failure")).to_contain_text("Choose a JPEG, PNG, WebP", timeout=MILLISECONDS)
    # Neither a sentence of the decoder, nor tools for a picture that there is not.
    expect(page.locator(".failure p")).to_have_count(1)
    expect(page.get_by_role("button", name="Zoom in")).to_have_count(0)


def test_a_file_that_is_too_large_is_not_uploaded(watched: Watched, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(PHOTO.read_bytes() + bytes(MAX_UPLOAD_BYTES))

    add_photos(watched.page, large)

    expect(watched.page.locator(".failure")).to_contain_text("The file is too large")
    expect(watched.page.locator(".failure")).to_contain_text("this service takes 4.0 MB at most")
    assert list_complaints(watched) == []


def test_the_page_goes_on_once_the_server_is_back(done: Page, page_service: Stack) -> None:
    page_service.gateway.kill()
    try:
        add_photos(done, SAMPLES / "cat.jpg")
        expect(done.get_by_role("alert")).to_contain_text("The server does not answer", timeout=MILLISECONDS)
    finally:
        page_service.gateway.start()

    expect(done.get_by_role("alert")).to_have_count(0, timeout=MILLISECONDS)
    expect(done.get_by_role("button", name="cat.jpg, Done").first).to_be_visible(timeout=MILLISECONDS)


def test_a_wrong_token_is_told_and_the_right_one_accepted(browser: Browser, page_service: Stack) -> None:
    with open_page(browser) as watched:
        page = watched.page
        page.goto(page_service.url)
        field = page.locator("#token")
        field.fill("wrong")
        page.get_by_role("button", name="Use this token").click()
        expect(page.get_by_role("alert")).to_contain_text("The token is wrong")

        field.fill(TOKEN)
        page.get_by_role("button", name="Use this token").click()

        expect(field).not_to_be_visible()
        expect(page.get_by_role("button", name="Token set")).to_be_visible()
        assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        assert not any(TOKEN in url for url in watched.requests)


def test_two_settings_are_compared(done: Page) -> None:
    count = show_instances(done)
    left = read_rows(done)

    done.get_by_role("button", name="Compare").click()
    move_slider(done, "threshold", 0.9)
    expect(done.locator(".segment")).not_to_have_count(count)
    line = done.get_by_label("Line between the left and the right result")
    line.press("ArrowRight")
    done.get_by_text("Left side").click()

    assert float(line.input_value()) > 0.5
    assert read_rows(done) == left
    done.get_by_role("button", name="Compare").click()
    expect(line).to_have_count(0)
