"""The page for photos in a browser: from the move of a slider to the picture, and the main thread while it is panned.

60 segments on a photo of 1920 x 1080, whose job was run by no model (tests/support/crowd.py); all else is a real
service.  Each move has another threshold, so that none is answered with another's reply.
"""

import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.sync_api import Browser, Page, Response

from deploy.local.stack import Stack
from shared.redis_client import connect
from shared.settings import Settings
from tests.bench.measurement import Measurement, Workload, latency_summary, print_progress
from tests.support.chromium import open_browser, open_page
from tests.support.crowd import HEIGHT, WIDTH, run_crowd
from tests.support.environment import copy_environment, get_fields
from tests.support.main_thread import LongTask, trace_tasks
from tests.support.page import MILLISECONDS, SAMPLES, add_photos, time_slider, wait_for_segments
from tests.support.renderer import wait_alive

VIEWPORT: Final = {"width": WIDTH, "height": HEIGHT}
SUBTASKS: Final = ("Panoptic", "Instance")
# Below all scores, so that the number of segments does not change.
THRESHOLDS: Final = (0.1, 0.3)
MAX_MOVES: Final = 60
PANNED_FRAMES: Final = 60
LARGE: Final = (6000, 4000)

# Returns the median milliseconds of decoding a label map, as the page does it.
_DECODE = """async (labels) => {
    const address = [...document.querySelectorAll("link[rel=modulepreload]")]
        .map(({ href }) => href).find(href => href.endsWith("/viewer/labels.js"));
    const { decodeLabels } = await import(address);
    const times = [];
    for (let count = 0; count < 15; count += 1) {
        const begin = performance.now();
        await decodeLabels(labels);
        times.push(performance.now() - begin);
    }
    return times.sort((one, other) => one - other)[7];
}"""
# Pans by a step of the keyboard in each frame.
_PAN = """async (count) => {
    const picture = document.querySelector(".picture");
    for (let step = 0; step < count; step += 1) {
        const key = step % 20 < 10 ? "ArrowLeft" : "ArrowRight";
        picture.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
        await new Promise(requestAnimationFrame);
    }
}"""


def run(workload: Workload) -> Iterator[Measurement]:
    """Start a service and a browser, and measure moves in each kind of segments, and panning."""
    print_progress("page: starting the stack")
    with (
        tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder,
        Stack(Path(folder), environ=copy_environment()) as service,
        open_browser() as browser,
    ):
        service.start()
        wait_alive(service.renderer, connect(Settings(**get_fields(service.env))))
        run_crowd(service)
        yield from measure_page(browser, service, Path(folder), workload)


def measure_page(browser: Browser, service: Stack, folder: Path, workload: Workload) -> Iterator[Measurement]:
    with open_page(browser, viewport=VIEWPORT) as watched:
        page = watched.page
        page.goto(service.url)
        page.get_by_role("button", name="crowd.jpg, Done").click()
        wait_for_segments(page)
        for subtask in SUBTASKS:
            print_progress(f"page: {subtask}")
            choose(page, subtask)
            settings = {"image": f"{WIDTH}x{HEIGHT}", "segments": page.locator(".segment").count(), "kind": subtask}
            yield Measurement("page.recut", settings, measure_moves(page, workload))
        print_progress("page: panning")
        yield Measurement("page.pan", settings, measure_panning(browser, page))
        print_progress("page: adding")
        yield Measurement("page.add", {"image": "x".join(map(str, LARGE))}, measure_adding(browser, page, folder))


def choose(page: Page, subtask: str) -> None:
    """Choose a kind of segments, and wait until the full size is shown, which follows the preview."""
    chosen = page.get_by_text(subtask, exact=True)
    if not chosen.locator("input").is_checked():
        with page.expect_response(is_full_recut, timeout=MILLISECONDS):
            chosen.click()
    page.locator(".sliders[aria-busy=false]").wait_for()


def is_full_recut(response: Response) -> bool:
    return response.url.endswith("/recut") and "max_side" not in (response.request.post_data or "")


def measure_moves(page: Page, workload: Workload) -> Mapping[str, Any]:
    """Move the slider one step after the other; the first moves, which choose the size of previews, are not counted."""
    answers: list[Response] = []

    def hear(response: Response) -> None:
        answers.append(response)

    page.on("response", hear)
    count = min(MAX_MOVES, max(workload.min_calls, int(10 * workload.seconds)))
    first, last = THRESHOLDS
    values = [first + (last - first) * step / (2 * count) for step in range(2 * count)]
    moves = [time_slider(page, "threshold", value) for value in values][count:]
    page.remove_listener("response", hear)
    recuts = [answer.json() for answer in answers if answer.url.endswith("/recut")][-count:]
    totals = [move.pop("total") for move in moves]
    return {
        **latency_summary(totals),
        "best_ms": round(min(totals), 1),
        "moves": len(moves),
        "preview": f"{recuts[-1]['width']}x{recuts[-1]['height']}",
        "page_ms": find_medians(moves),
        "renderer_ms": find_medians([recut["timings_ms"] for recut in recuts]),
        "decode_ms": round(page.evaluate(_DECODE, recuts[-1]["labels"]), 1),
        "answer_bytes": len(json.dumps(recuts[-1])),
    }


def find_medians(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(one[name] for one in parts), 1) for name in parts[0]}


def measure_panning(browser: Browser, page: Page) -> Mapping[str, Any]:
    """Pan the picture, then move the slider a few times; return what the main thread did."""
    for _ in range(3):
        page.get_by_role("button", name="Zoom in").click()
    with trace_tasks(browser, page) as panned:
        page.evaluate(_PAN, PANNED_FRAMES)
    with trace_tasks(browser, page) as recut:
        for step in range(10):
            time_slider(page, "threshold", 0.32 + step / 1000)
    return {
        "renderer": page.locator(".picture").get_attribute("data-renderer"),
        "frame_ms": panned.describe_frames(),
        "long_tasks": {"panning": list_long(panned.long_tasks), "recuts": list_long(recut.long_tasks)},
    }


def measure_adding(browser: Browser, page: Page, folder: Path) -> Mapping[str, Any]:
    """Add a photo, and return the long tasks of the main thread until its segments are shown."""
    file = folder / "large.jpg"
    Image.open(SAMPLES / "astronaut.jpg").resize(LARGE).save(file, quality=60)
    with trace_tasks(browser, page) as added:
        add_photos(page, file)
        page.get_by_role("heading", name=file.name).wait_for()
        page.get_by_role("button", name=f"{file.name}, Done").wait_for(timeout=4 * MILLISECONDS)
        wait_for_segments(page)
        page.locator(".picture[data-drawn=wholly]").wait_for(timeout=MILLISECONDS)
    return {"long_tasks": list_long(added.long_tasks), "longest_ms": round(max(added.tasks), 1)}


def list_long(tasks: Sequence[LongTask]) -> list[str]:
    return [f"{task.milliseconds:.0f} ms: {task.describe()}" for task in tasks]
