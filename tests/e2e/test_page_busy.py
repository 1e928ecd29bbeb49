"""The page for photos where the service takes few at a time: what it refuses for now waits, and is sent by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Response, expect

from deploy.local.stack import Stack
from tests.support.chromium import open_page
from tests.support.environment import copy_environment
from tests.support.page import MILLISECONDS, SAMPLES, TOKEN, add_photos, freeze, open_with_token

TAKEN_AT_A_TIME = 2
COUNT = 5
# A photo may be sent before the page has heard that another one was refused.
UNHEARD_MS = 500
# Returns of each submission when it began and when it was answered, in milliseconds, and with what.
_READ_SUBMISSIONS = """() => performance.getEntriesByType("resource")
    .filter(({ name }) => name.includes("/v1/jobs/page-"))
    .map((one) => ({ began: one.startTime, ended: one.responseEnd, status: one.responseStatus }))"""


@pytest.fixture(scope="module")
def busy_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that takes two photos of a tenant at a time."""
    settings = {"MASKMILL_TOKENS": f"tester:{TOKEN}", "MASKMILL_MAX_QUEUED_PER_TENANT": str(TAKEN_AT_A_TIME)}
    with Stack(tmp_path_factory.mktemp("busy"), environ={**copy_environment(), **settings}) as running:
        yield running.start()


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{number}.jpg" for number in range(COUNT)]
    for file in files:
        file.write_bytes((SAMPLES / "cat.small.jpg").read_bytes())
    return files


def test_many_photos_are_sent_as_the_service_takes_them(
    browser: Browser, busy_service: Stack, photos: list[Path]
) -> None:
    waits: list[float] = []

    def note_wait(response: Response) -> None:
        if response.status == 429:
            waits.append(1000 * float(response.headers["retry-after"]))

    with open_page(browser, viewport={"width": 1440, "height": 900}) as watched:
        page = watched.page
        page.on("response", note_wait)
        open_with_token(page, busy_service.url)
        with freeze(busy_service.worker.pid):
            add_photos(page, *photos)
            refused = page.get_by_role("button", name="Waits for the service").first
            refused.click(timeout=MILLISECONDS)
            expect(page.locator(".photo-state")).to_contain_text("Again in")
            told = page.locator(".delay .notice__title").inner_text()
            expect(page.get_by_text("This page sends it again by itself.")).to_be_attached()
        for file in photos:
            done = page.get_by_role("button", name=f"{file.name}, Done")
            done.wait_for(timeout=2 * MILLISECONDS)
        submissions = page.evaluate(_READ_SUBMISSIONS)

    assert told == "The queue is full"
    states = [job["state"] for job in busy_service.client.get("/v1/jobs?limit=100").json()["jobs"]]
    assert states == COUNT * ["succeeded"]
    assert count_answers(submissions, 202) == COUNT
    assert count_answers(submissions, 429) == len(waits) >= 1
    assert find_hasty(submissions, min(waits)) == []


def count_answers(submissions: list[dict[str, Any]], status: int) -> int:
    return sum(one["status"] == status for one in submissions)


def find_hasty(submissions: list[dict[str, Any]], wait_ms: float) -> list[dict[str, Any]]:
    """Return the submissions that began less than a time after another was refused, and not just with it."""
    refusals = [one["ended"] for one in submissions if one["status"] == 429]
    return [one for one in submissions if any(UNHEARD_MS < one["began"] - refused < wait_ms for refused in refusals)]
