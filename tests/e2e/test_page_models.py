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
def compared(browser: Browser, page_service: Stack, second_model: str) -> Iterator[Page]:
    """The page with the instances of a photo by two models."""
    with open_page(browser, viewport={"width": 1440, "height": 900}) as watched:
        page = watched.page
        open_with_token(page, page_service.url)
        add_photos(page, PHOTO)
        wait_for_segments(page)
        show_instances(page)
        page.get_by_role("button", name="Compare").click()
        page.get_by_label("Model on the right").select_option(second_model)
        yield page


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
