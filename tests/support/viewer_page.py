"""A page with nothing but the viewer on it, from a server of the page's own files and of what a test gives."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page

from deploy.local.servers import LOOPBACK
from tests.support.chromium import open_page
from worker.formats.png import PngStrategy, encode_png

STATIC = Path(__file__).parents[2] / "api" / "ui" / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".png": "image/png", ".jpg": "image/jpeg", ".html": "text/html"}
# The page's own policy.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCUMENT = b"""<!doctype html><html lang=en><meta charset=utf-8><title>Viewer</title>
<link rel=stylesheet href=/styles/viewer.css><link rel=stylesheet href=/frame.css><link rel=icon href=data:,>
<main><div id=stage></div></main><script type=module src=/start.js></script></html>"""
FRAME = b"""html, body, main { margin: 0; height: 100%; background: Canvas; color-scheme: light dark }
#stage { height: 100% }"""
START = b"""
import { createViewer } from "/modules/viewer/viewer.js";
import { colorSegments } from "/modules/viewer/colors.js";
import { decodeLabels } from "/modules/viewer/labels.js";
const load = async (name) => (await fetch("/" + name)).blob();
window.told = { hovered: [], selected: [], views: [] };
window.open_viewer = (renderer) => {
  window.viewer?.dispose();
  window.viewer = createViewer(document.querySelector("#stage"), {
    onHover: (id) => told.hovered.push(id),
    onSelect: (id) => told.selected.push(id),
    onView: (view) => told.views.push(view),
  }, { renderer });
  const draw = viewer.draw.bind(viewer);
  viewer.draw = () => {
    performance.mark("draw");
    draw();
    performance.measure("frame", "draw");
  };
};
/** Pan for so many frames, as a finger does, and return what each took of the main thread, in milliseconds. */
window.pan = async (frames) => {
  performance.clearMeasures();
  const tasks = [];
  const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration)));
  observer.observe({ type: "longtask" });
  for (let step = 0; step < frames; step++) {
    viewer.panBy(step % 60 < 30 ? -7 : 7, step % 40 < 20 ? -4 : 4);
    await new Promise(requestAnimationFrame);
  }
  await settle();
  observer.disconnect();
  return { frames: performance.getEntriesByName("frame").map((entry) => entry.duration), tasks };
};
window.show = async (photo, labels, segments) => {
  if (photo) viewer.setPhoto(await createImageBitmap(await load(photo), { imageOrientation: "from-image" }));
  window.segments = segments[0]?.color ? segments : colorSegments(segments);
  window.labels = await decodeLabels(await load(labels));
  viewer.setSegments(window.segments);
  viewer.setLabels(window.labels);
};
window.decode = async (name) => decodeLabels(await load(name));
/** Resolve when the picture is complete and on the screen. */
window.settle = async () => {
  for (let quiet = 0; quiet < 3; quiet = viewer.isBusy ? 0 : quiet + 1) await new Promise(requestAnimationFrame);
};
window.ready = true;
"""


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, *arguments: Any, files: dict[str, bytes]) -> None:
        self.files = files
        super().__init__(*arguments)

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].lstrip("/") or "index.html"
        content = self.files.get(name)
        if content is None and (path := STATIC / name).is_file():
            content = path.read_bytes()
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", TYPES.get(Path(name).suffix, "application/octet-stream"))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        """Write no log."""


@dataclass
class ViewerPage:
    """page: a Playwright page on which `viewer` is open.  complaints: of its console, which a test wants empty."""

    page: Page
    files: dict[str, bytes]
    complaints: list[str] = field(default_factory=list)

    def show(
        self, photo: NDArray[np.uint8] | bytes | None, label_map: NDArray[Any], segments: list[dict[str, Any]]
    ) -> None:
        """Show a photo (h, w, 3) RGB, or the bytes of a file, with its label map."""
        if photo is not None:
            self.files["photo"] = photo if isinstance(photo, bytes) else save_png(photo)
        self.files["labels.png"] = encode_png(label_map, PngStrategy.RUN_LENGTH)
        photo_name = None if photo is None else "photo"
        self.page.evaluate("([photo, segments]) => show(photo, 'labels.png', segments)", [photo_name, segments])

    def call(self, script: str) -> Any:
        """Run a script, and wait until the picture rests."""
        result = self.page.evaluate(script)
        self.page.evaluate("settle()")
        return result

    def look(self) -> NDArray[np.uint8]:
        """Return the screen (h, w, 3) RGB as a person sees it."""
        self.page.evaluate("settle()")
        return read_picture(self.page.screenshot())[:, :, :3]


def save_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG file."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png", compress_level=1)
    return file.getvalue()


def read_picture(content: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a file as they are."""
    return np.asarray(Image.open(BytesIO(content)))


@contextmanager
def serve_viewer() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the address of a server, and the files that it gives beside those of the page."""
    files = {"index.html": DOCUMENT, "frame.css": FRAME, "start.js": START}
    server = ThreadingHTTPServer((LOOPBACK, 0), partial(_Handler, files=files))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/", files
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def open_viewer(browser: Browser, renderer: str = "auto", **context: Any) -> Iterator[ViewerPage]:
    """Open the page with a viewer that fills it."""
    with serve_viewer() as (url, files), open_page(browser, **context) as watched:
        watched.page.goto(url)
        watched.page.wait_for_function("window.ready")
        watched.page.evaluate(f"open_viewer({renderer!r})")
        yield ViewerPage(watched.page, files, watched.complaints)
