"""The page for operators in a real browser, from a real gateway over real stores with jobs and workers in them."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis
from playwright.sync_api import Browser, Page, expect

from deploy.local.servers import LOOPBACK
from shared import redis_keys
from shared.errors import AttemptsExhausted, ImageTooCostly, MaskmillError
from shared.jobs.completion import complete_job
from shared.jobs.inputs import InputMover
from shared.jobs.model import Priority
from shared.jobs.result import failed_result
from shared.redis_client import connect
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.conftest import Storage
from tests.support.chromium import Watched, find_barriers, keep_picture, open_browser, open_page
from tests.support.gateway import GatewayUnderTest, open_gateway
from tests.support.jobs import MODEL, build_request, store_input
from tests.support.raw_gateway import RawGateway, build_environment

OTHER = "facebook/mask2former-swin-large-coco-panoptic"
TOKEN = "0perator-5b1c"
WIDTHS = (390, 820, 1440)
# Longer than the page waits between two calls, even while they fail.
LONG_MS = 35_000


@dataclass(frozen=True)
class Fleet:
    """A gateway process, and the stores behind it."""

    address: str
    process: RawGateway
    stores: GatewayUnderTest

    def report(self, worker: WorkerStatus) -> None:
        WorkerRegistry(connect(self.stores.settings)).report(worker)

    def fail(self, error: MaskmillError) -> str:
        """Return the id of a new job that failed so."""
        request = build_request()
        store_input(self.stores.stores.bucket, request)
        self.stores.stores.jobs.create(request)
        bucket = self.stores.stores.bucket
        complete_job(
            failed_result(request, error), jobs=self.stores.stores.jobs, bucket=bucket, inputs=InputMover(bucket, 3600)
        )
        return request.id

    def wait(self, count: int, priority: Priority) -> None:
        for _ in range(count):
            self.stores.stores.jobs.create(build_request(priority=priority))

    def count_queued(self, priority: Priority) -> int:
        return next(
            queue["queued"]
            for model in self.stores.client.get("/v1/queue").json["models"]
            for queue in model["queues"]
            if (model["model"], queue["priority"]) == (MODEL, priority)
        )

    def remember_hour(self, model: str, *, per_minute: int) -> None:
        """Write what workers count, as after an hour of work."""
        client = connect(self.stores.settings)
        chance, now = random.Random(model), int(time.time() // 60)
        for minute in range(now - 58, now):
            images = max(
                0, round(per_minute * (0.6 + 0.4 * chance.random()) * (1 if 12 < (minute - now) % 60 < 50 else 0.3))
            )
            failed = int(chance.random() < 0.06)
            counts = {"succeeded": images - failed, "failed": failed, "images": images, "device_ms": 40 * images}
            counts |= {"batch_sizes": round(images * (1 + 5 * chance.random())), "error:image_too_costly": failed}
            client.hset(redis_keys.ended_jobs(model, minute), mapping=counts)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as running:
        yield running


@pytest.fixture(scope="module")
def empty_redis(redis_url: str) -> Iterator[str]:
    """The tests of this file share what they put into it."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield redis_url
        client.flushall()


@contextmanager
def start(redis_url: str, storage: Storage, bucket: str, folder: Path, **settings: str) -> Iterator[Fleet]:
    env = {**build_environment(redis_url, storage, bucket), "MASKMILL_PROCESSES": "1", **settings}
    with RawGateway(folder, env) as process:
        process.wait_ready()
        stores = open_gateway(redis_url, storage.get_env(bucket))
        yield Fleet(f"http://{LOOPBACK}:{process.port}", process, stores)


@pytest.fixture(scope="module")
def service(
    empty_redis: str, storage: Storage, bucket_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A gateway that asks for no token; an hour of work, failures and dead letters are in its stores."""
    with start(empty_redis, storage, bucket_name, tmp_path_factory.mktemp("open")) as fleet:
        fleet.remember_hour(MODEL, per_minute=42)
        fleet.remember_hour(OTHER, per_minute=7)
        fleet.fail(ImageTooCostly("Decoding this image takes more than 20 s of CPU time."))
        fleet.fail(AttemptsExhausted("3 workers were lost while they ran this job, the last one gpu-7."))
        fleet.wait(3, Priority.NORMAL)
        fleet.wait(2, Priority.LOW)
        yield fleet


@pytest.fixture
def fleet(service: Fleet) -> Fleet:
    """The same, with workers in several states, of which the heartbeats are new."""
    report_workers(service)
    return service


@pytest.fixture(scope="module")
def guarded(
    empty_redis: str, storage: Storage, bucket_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A gateway that asks for a token."""
    folder = tmp_path_factory.mktemp("guarded")
    with start(empty_redis, storage, bucket_name, folder, MASKMILL_TOKENS=f"shop:{TOKEN}") as fleet:
        yield fleet


def report_workers(fleet: Fleet) -> None:
    ready = WorkerStatus("gpu-7-4711-0a1b", MODEL, WorkerState.READY, "cuda:0 (NVIDIA H200)", "r1", load_seconds=8.4)
    fleet.report(replace(ready, forward="exact"))
    fleet.report(replace(ready, id="gpu-8-4712-0a1c", state=WorkerState.LOADING, load_seconds=None))
    reason = "The model at /srv/models/roads has no config.json, so this worker cannot load it."
    fleet.report(WorkerStatus("gpu-9-17-0a1d", OTHER, WorkerState.SETUP_FAILED, "cpu", reason=reason))


def show(watched: Watched, fleet: Fleet) -> Page:
    # Time goes on as usual, and a test can let more of it pass at once.
    watched.page.clock.install()
    watched.page.goto(f"{fleet.address}/ui/ops")
    return watched.page


def section(page: Page, name: str) -> Any:
    return page.get_by_role("region", name=name, exact=True)


def test_workers_queues_and_the_last_hour_are_shown(browser: Browser, fleet: Fleet) -> None:
    with open_page(browser) as watched:
        page = show(watched, fleet)

        expect(page.get_by_role("article", name=MODEL)).to_contain_text("Ready")
        expect(page.get_by_role("article", name=OTHER)).to_contain_text("Setup failed")
        rows = section(page, f"Queues of {MODEL}").get_by_role("row")
        for row, priority in enumerate(Priority, start=1):
            expect(rows.nth(row)).to_contain_text(f"{priority.capitalize()}{fleet.count_queued(priority)}")
        expect(page.get_by_role("img", name="Images segmented")).to_be_visible()
        assert watched.complaints == []


def test_a_chart_can_be_read_as_a_table(browser: Browser, fleet: Fleet) -> None:
    queue = fleet.stores.client.get("/v1/queue").json["models"]
    images = sum(minute["images"] for model in queue for minute in model["last_hour"])
    with open_page(browser) as watched:
        page = show(watched, fleet)

        page.get_by_text("As a table: Images segmented").click()
        table = section(page, "Images segmented, by minute")

        expect(table).to_be_visible()
        shown = [int(cell) for cell in table.get_by_role("cell").all_inner_texts()]
        assert sum(shown) == images > 1000


def test_what_changes_is_shown_without_a_reload(browser: Browser, fleet: Fleet) -> None:
    before = fleet.count_queued(Priority.LOW)
    with open_page(browser) as watched:
        page = show(watched, fleet)
        row = section(page, f"Queues of {MODEL}").get_by_role("row").nth(3)
        expect(row).to_contain_text(f"Low{before}")

        fleet.wait(4, Priority.LOW)

        expect(row).to_contain_text(f"Low{before + 4}")


def test_a_hidden_or_paused_page_asks_for_nothing(browser: Browser, fleet: Fleet) -> None:
    with open_page(browser) as watched:
        page = show(watched, fleet)
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_text("Paused, as of")).to_be_visible()
        pass_time(page)
        known = len(watched.requests)

        pass_time(page)
        assert len(watched.requests) == known

        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_text("Live, as of")).to_be_visible()
        hide(page, is_hidden=True)
        pass_time(page)
        known = len(watched.requests)
        pass_time(page)
        assert len(watched.requests) == known

        with page.expect_response("**/v1/queue"):
            hide(page, is_hidden=False)


def pass_time(page: Page) -> None:
    """Let time pass for the page's timers, and let it send what they begin."""
    page.clock.run_for(LONG_MS)
    page.wait_for_timeout(500)


def hide(page: Page, *, is_hidden: bool) -> None:
    """Have the page believe that its tab is in the background: a headless browser has none."""
    page.evaluate(
        "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange')); }",
        is_hidden,
    )


def test_a_dead_letter_is_run_again(browser: Browser, fleet: Fleet) -> None:
    job_id = fleet.fail(AttemptsExhausted("3 workers were lost."))
    with open_page(browser) as watched:
        page = show(watched, fleet)

        page.get_by_role("button", name=f"Run again job {job_id}").click()

        expect(page.get_by_text("Queued again")).to_be_visible()
        queued = fleet.stores.client.get("/v1/jobs?state=queued").json["jobs"]
        (new,) = [job for job in queued if job["redrive_of"] == job_id]
        expect(page.get_by_text(new["id"])).to_be_visible()
        assert watched.complaints == []


def test_a_service_that_is_gone_and_back_is_shown_so(browser: Browser, fleet: Fleet) -> None:
    with open_page(browser) as watched:
        page = show(watched, fleet)
        expect(page.get_by_text("Live, as of")).to_be_visible()

        # Playwright's own way to have no network; the gateway's process runs on.
        watched.page.context.set_offline(True)
        page.clock.run_for(LONG_MS)
        expect(page.get_by_text("The server does not answer")).to_be_visible()
        watched.page.context.set_offline(False)
        page.clock.run_for(LONG_MS)

        expect(page.get_by_text("The server does not answer")).to_be_hidden()


def test_a_token_is_asked_for_and_is_in_no_address_nor_log(browser: Browser, guarded: Fleet) -> None:
    with open_page(browser) as watched:
        page = show(watched, guarded)
        field = page.get_by_label("Token", exact=True)

        field.fill("wrong")
        field.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("This token is wrong")
        field.fill(TOKEN)
        field.press("Enter")
        expect(page.get_by_role("heading", name="Models and workers")).to_be_visible()

        assert page.evaluate("Object.values(sessionStorage)") == [TOKEN]
        assert page.evaluate("localStorage.length + document.cookie.length") == 0
        assert [url for url in watched.requests if TOKEN in url] == []
        page.get_by_role("button", name="Forget the token").click()
        expect(field).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0
    assert TOKEN not in guarded.process.log.read_text()


def test_all_is_reached_by_keyboard(browser: Browser, fleet: Fleet) -> None:
    with open_page(browser) as watched:
        page = show(watched, fleet)
        expect(page.get_by_role("button", name="Run again job").first).to_be_visible()

        names = list(press_tab(page, times=20))

        assert names[0].startswith("Skip to the content")
        assert {"Photos", "Operations", "API", "Pause"} <= set(names)
        assert any(name.startswith("As a table") for name in names)
        assert any(name.startswith("Run again job") for name in names)


def press_tab(page: Page, *, times: int) -> Iterator[str]:
    for _ in range(times):
        page.keyboard.press("Tab")
        yield page.evaluate("document.activeElement.textContent").strip()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_screens_and_has_no_barriers(browser: Browser, fleet: Fleet, scheme: Any) -> None:
    for width in WIDTHS:
        with open_page(browser, viewport={"width": width, "height": 900}, color_scheme=scheme) as watched:
            page = show(watched, fleet)
            expect(page.get_by_role("button", name="Run again job").first).to_be_visible()

            keep_picture(page, f"ops-{width}-{scheme}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert find_barriers(page) == []


def test_the_page_before_a_token_has_no_barriers(browser: Browser, guarded: Fleet) -> None:
    with open_page(browser, viewport={"width": 390, "height": 800}) as watched:
        page = show(watched, guarded)
        expect(page.get_by_label("Token", exact=True)).to_be_visible()

        keep_picture(page, "ops-token")
        assert find_barriers(page) == []
