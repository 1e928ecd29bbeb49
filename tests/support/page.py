"""What tests do on the page for photos."""

import base64
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Locator, Page, expect

from deploy.local.gateway_client import GatewayClient
from deploy.local.sample_job import SAMPLE_IMAGE
from deploy.local.stack import Stack
from tests.support.chromium import Watched
from tests.support.polling import wait_until

PHOTO: Final = SAMPLE_IMAGE
SAMPLES: Final = Path(__file__).parents[2] / "api" / "ui" / "static" / "samples"
TOKEN: Final = "a-token-of-the-tests"
MAX_UPLOAD_BYTES: Final = 4_000_000
MILLISECONDS: Final = 30_000
_PASTE = """([name, content]) => {
    const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([bytes], name, { type: "image/jpeg" }));
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
}"""
_DROP = """([name, content]) => {
    const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
    for (const kind of ["dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
    }
}"""

_TIME_SLIDER = """async ([name, value]) => {
    const slider = document.querySelector(`#slider-${name}`);
    const settings = document.querySelector(".sliders");
    const frame = () => new Promise(requestAnimationFrame);
    performance.clearResourceTimings();
    const begin = performance.now();
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise(shown => new MutationObserver((_, one) => {
        if (settings.getAttribute("aria-busy") === "true") return;
        one.disconnect();
        shown();
    }).observe(settings, { attributes: true, attributeFilter: ["aria-busy"] }));
    const applied = performance.now();
    await frame();
    const listed = performance.now();
    while (document.querySelector(".picture").dataset.drawn !== "wholly") await frame();
    const drawn = performance.now();
    const request = performance.getEntriesByType("resource").filter(one => one.name.endsWith("/recut")).at(-1);
    return {
        total: drawn - begin,
        send: request.requestStart - begin,
        wait: request.responseStart - request.requestStart,
        receive: request.responseEnd - request.responseStart,
        apply: applied - request.responseEnd,
        list: listed - applied,
        draw: drawn - listed,
    };
}"""


def open_with_token(page: Page, url: str) -> None:
    """Open the page as its user left it, with the token of this tab."""
    page.add_init_script(f"sessionStorage.setItem('maskmill-token', '{TOKEN}')")
    page.goto(url)
    page.get_by_role("heading", level=1).wait_for()


def list_complaints(watched: Watched) -> list[str]:
    """Return what the page has complained of, but for the drawing library's remarks on a machine without a GPU."""
    return [one for one in watched.complaints if "GL Driver Message" not in one]


def add_photos(page: Page, *files: Path) -> None:
    """Choose files."""
    page.locator("input[type=file][multiple]").first.set_input_files([str(file) for file in files])


def drop_file(page: Page, file: Path) -> None:
    """Drop a file on the page."""
    page.evaluate(_DROP, [file.name, base64.b64encode(file.read_bytes()).decode()])


def paste_file(page: Page, file: Path) -> None:
    """Paste a file into the page."""
    page.evaluate(_PASTE, [file.name, base64.b64encode(file.read_bytes()).decode()])


def wait_for_segments(page: Page) -> Locator:
    """Wait for the segments of the selected photo, and return their rows."""
    rows = page.locator(".segment")
    rows.first.wait_for(timeout=MILLISECONDS)
    return rows


def time_slider(page: Page, name: str, value: float) -> dict[str, float]:
    """Move a slider, and return the milliseconds until the picture is whole: `total`, and of its parts.

    `send` is until the request leaves, `wait` until its answer begins, `receive` until it ends, `apply` until the list
    has it, `list` until the next frame, `draw` until the picture is whole.
    """
    measured: dict[str, float] = page.evaluate(_TIME_SLIDER, [name, value])
    return measured


def move_slider(page: Page, name: str, value: float) -> None:
    """Move a slider of the settings as a hand does: through values on the way."""
    slider = page.locator(f"#slider-{name}")
    start = float(slider.input_value())
    for step in range(1, 6):
        slider.fill(f"{start + (value - start) * step / 5:.2f}")


def show_instances(page: Page) -> int:
    """Switch to instances, of whose scores each threshold selects others, and return how many there are."""
    rows = page.locator(".segment")
    before = rows.count()
    page.get_by_text("Instance", exact=True).click()
    expect(rows).not_to_have_count(before, timeout=MILLISECONDS)
    return rows.count()


def count_forward_passes(stack: Stack) -> float:
    """Return how many batches the worker has run."""
    text = GatewayClient(stack.ports.probe).get("/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith("maskmill_batches_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def press_until(page: Page, key: str, name: str, *, limit: int = 60) -> None:
    """Press a key until what has the focus has a name that begins so."""
    focused = "(document.activeElement.labels?.[0] ?? document.activeElement).innerText ?? ''"
    for _ in range(limit):
        page.keyboard.press(key)
        if page.evaluate(focused).strip().startswith(name):
            return
    raise AssertionError(f"{key} does not come to {name}")


def read_rows(page: Page) -> list[tuple[str, str, str]]:
    """Return the names, shares and scores of the listed segments."""
    part = "row => ['name', 'share', 'score'].map(part => row.querySelector(`.segment-${part}`).innerText)"
    rows = page.locator(".segment").evaluate_all(f"rows => rows.map({part})")
    return [(name, share, score) for name, share, score in rows]


def read_image(path: Path) -> NDArray[Any]:
    """Return the samples of an image file, in the order of OpenCV: blue, green, red, alpha."""
    decoded = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return np.asarray(decoded)


def download(page: Page, file: str) -> Path:
    """Save a file by the page's menu."""
    if page.locator("dialog[open]").count() == 0:
        page.get_by_role("button", name="Download", exact=True).click()
    with page.expect_download(timeout=MILLISECONDS) as caught:
        page.get_by_role("button", name=f"Download {file}", exact=True).click()
    assert caught.value.suggested_filename == f"photo.{file}"
    return caught.value.path()


def expect_picture(picture: Locator, is_expected: Callable[[bytes], bool]) -> bytes:
    """Wait for what a picture shows, and return it as a PNG."""
    shown = [picture.screenshot()]

    def look() -> bool:
        shown[0] = picture.screenshot()
        return is_expected(shown[0])

    wait_until(look, "the expected picture")
    return shown[0]


@contextmanager
def freeze(pid: int) -> Iterator[None]:
    """Stop a process, which leads a group, and its children for a while."""
    os.killpg(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(pid, signal.SIGCONT)
