"""The page for photos where two models are served: the same photo by both, side by side."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from deploy.local.stack import Stack
from tests.support.chromium import open_page
from tests.support.page import (
    MILLISECONDS,
    PHOTO,
    SAMPLES,
    add_photos,
    move_slider,
    open_with_token,
    read_rows,
    show_instances,
    wait_for_segments,
)
from tests.support.polling import wait_until
from worker.embedded_model import FOLDER

SECOND = "local/second"
DEFAULT = "maskmill/embedded"


@pytest.fixture
def second_model(page_service: Stack, tmp_path: Path) -> Iterator[str]:
    """Another model, which a worker of its own serves: a copy of the embedded one."""
    folder = tmp_path / "second"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        shutil.copy(FOLDER / name, folder)
    worker = page_service.start_worker(MASKMILL_MODEL=str(folder))
    try:
        wait_until(lambda: is_ready(page_service), "a worker of the second model", seconds=60)
        yield SECOND
    finally:
        worker.stop()


def is_ready(stack: Stack) -> bool:
    """Return whether the second model is served."""
    response = stack.client.request("GET", f"/v1/models/{SECOND}")
    return response.is_ok and response.json()["state"] == "ready"


@pytest.fixture
def opened(browser: Browser, page_service: Stack, second_model: str) -> Iterator[Page]:
    """The page, opened while two models are served."""
    with open_page(browser, viewport={"width": 1440, "height": 900}) as watched:
        open_with_token(watched.page, page_service.url)
        wait_until(lambda: offers_models(watched.page), "a page with both models", seconds=60)
        yield watched.page


def offers_models(page: Page) -> bool:
    """Load the page again, and return whether it offers both models.

    It reads them once, and a process of the gateway may hear of the second one later than the process that was asked.
    """
    page.reload()
    try:
        expect(page.get_by_label("Model for new photos")).to_be_visible(timeout=2000)
    except AssertionError:
        return False
    return True


@pytest.fixture
def compared(opened: Page, second_model: str) -> Page:
    """The page with the instances of a photo by two models."""
    add_photos(opened, PHOTO)
    wait_for_segments(opened)
    show_instances(opened)
    opened.get_by_role("button", name="Compare").click()
    opened.get_by_label("Model on the right").select_option(second_model)
    return opened


def test_a_photo_is_compared_by_two_models(compared: Page, page_service: Stack, second_model: str) -> None:
    expect(compared.locator(".sliders")).to_have_attribute("aria-busy", "false", timeout=MILLISECONDS)
    by_second = read_rows(compared)
    move_slider(compared, "threshold", 0.9)
    expect(compared.locator(".segment")).not_to_have_count(len(by_second))
    fewer = read_rows(compared)
    compared.get_by_text("Left side").click()

    [job] = page_service.client.get("/v1/jobs?limit=1").json()["jobs"]
    assert (job["model"], job["state"]) == (second_model, "succeeded")
    # The models are the same, so a difference is that of the moved threshold.
    assert read_rows(compared) == by_second
    assert len(fewer) < len(by_second)


def test_new_photos_are_segmented_by_the_chosen_model(opened: Page, page_service: Stack, second_model: str) -> None:
    first, second = SAMPLES / "cat.jpg", SAMPLES / "coffee.jpg"

    opened.get_by_label("Model for new photos").select_option(second_model)
    add_photos(opened, first)
    wait_for_segments(opened)
    chosen = opened.get_by_label("Model for new photos")
    expect(chosen).to_have_value(second_model)
    chosen.select_option(DEFAULT)
    add_photos(opened, second)
    expect(opened.get_by_role("heading", name=second.name)).to_be_visible()
    wait_for_segments(opened)

    jobs = page_service.client.get("/v1/jobs?limit=2").json()["jobs"]
    assert {job["metadata"]["name"]: job["model"] for job in jobs} == {first.name: second_model, second.name: DEFAULT}


def test_where_one_model_is_served_there_is_no_choice(page: Page) -> None:
    add_photos(page, PHOTO)
    wait_for_segments(page)

    expect(page.get_by_label("Model for new photos")).to_have_count(0)
