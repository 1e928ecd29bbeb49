"""The whole service as real processes, gateway included, beside transformers' pipeline called directly.

The first line compares one client with calls in process, in turn; the others load the gateway with clients.
"""

import http.client
import json
import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from deploy.local.servers import LOOPBACK
from deploy.local.stack import Stack
from tests.bench.engine import segmented
from tests.bench.measuring import Effort, Measurement, at_once, device_name, in_turn, median_stages, progress, spread
from tests.bench.reference import THRESHOLD, embedded_segmenter, reference_pipeline
from tests.support.images import coffee, jpeg
from worker.pipeline.decode import decode

SYNC = f"/models/maskmill/embedded?threshold={THRESHOLD}"
JOBS = f"/v1/jobs?threshold={THRESHOLD}"
TIMEOUT_SECONDS = 120
MAX_PIXELS = 10**8
# What calling the engine in process takes as well.
ENGINE_STAGES = ("decode", "prepare", "device")


class Client:
    """One caller with one connection that stays open, as a session of any HTTP library has it.  Not thread-safe."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_SECONDS)

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, use_cache: bool = True
    ) -> tuple[Mapping[str, str], Any]:
        """Return headers and parsed body.

        Raises:
            RuntimeError: the gateway answered with an error.
        """
        headers = {"x-use-cache": str(use_cache).lower()} | ({"Content-Type": "image/jpeg"} if body else {})
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"the gateway answered {answer.status}: {content[:200].decode(errors='replace')}")
        return dict(answer.headers), json.loads(content)

    def segment(self, photo: bytes, *, use_cache: bool = False) -> str:
        """Wait for the masks of a photo; return the id of its job."""
        headers, _ = self.ask("POST", SYNC, photo, use_cache=use_cache)
        return headers["x-maskmill-job-id"]

    def run_job(self, photo: bytes) -> str:
        """Submit a photo as a job and wait for its end; return its id."""
        _, job = self.ask("POST", JOBS, photo)
        return str(self.end_of(job["id"])["id"])

    def end_of(self, job_id: str) -> dict[str, Any]:
        """Wait until a job has succeeded, and return it."""
        job = {"state": "queued"}
        while job["state"] in ("queued", "running"):
            _, job = self.ask("GET", f"/v1/jobs/{job_id}?wait=20")
        if job["state"] != "succeeded":
            raise RuntimeError(f"the job {job_id} {job['state']}")
        return job


WAYS: Mapping[str, Callable[[Client, bytes], str]] = {
    "sync": Client.segment,
    "sync, answered before": partial(Client.segment, use_cache=True),
    "job": Client.run_job,
}


def run(effort: Effort) -> Iterator[Measurement]:
    """Start a stack of our own and measure both ways in."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")}
    photo = jpeg(coffee())
    progress("service: starting the stack")
    with (
        tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder,
        Stack(Path(folder), environ=plain) as stack,
    ):
        stack.start()
        progress("service: one client beside calls in process")
        yield _beside(stack.port, photo, effort)
        for way in WAYS:
            for clients in effort.clients:
                progress(f"service: {way}, clients: {clients}")
                yield _loaded(stack.port, photo, way, clients, effort)


def _beside(port: int, photo: bytes, effort: Effort) -> Measurement:
    segmenter = embedded_segmenter()
    pipeline = reference_pipeline(segmenter.device)
    client = Client(port)
    sent: dict[str, list[str]] = defaultdict(list)
    calls: dict[str, Callable[[], object]] = {
        "pipeline": lambda: pipeline(Image.open(BytesIO(photo)), threshold=THRESHOLD),
        "engine": lambda: segmented(segmenter, [decode(photo, max_pixels=MAX_PIXELS)], 1),
        "sync": lambda: sent["sync"].append(client.segment(photo)),
        "job": lambda: sent["job"].append(client.run_job(photo)),
    }
    for call in calls.values():
        call()
    sent.clear()
    taken = in_turn(calls, effort)
    medians = {f"{name}_ms": round(statistics.median(rounds), 1) for name, rounds in taken.items()}
    figures = medians | {"pipeline_images_per_second": round(1000 / medians["pipeline_ms"], 2)}
    stages: dict[str, Any] = {}
    for way, job_ids in sent.items():
        noted = [client.end_of(job_id)["timings_ms"] for job_id in job_ids]
        figures[f"{way}_added_ms"] = round(statistics.median(map(_added_ms, taken[way], noted)), 1)
        stages[f"{way}_stages_ms"] = median_stages(noted)
    return Measurement("service.beside", _settings(), figures | stages, device_name(segmenter.device))


def _added_ms(elapsed_ms: float, stages: Mapping[str, float]) -> float:
    """Return what the caller waited beyond the engine's own work on this very photo."""
    return elapsed_ms - sum(stages[stage] for stage in ENGINE_STAGES)


def _loaded(port: int, photo: bytes, way: str, clients: int, effort: Effort) -> Measurement:
    callers = [Client(port) for _ in range(clients)]
    WAYS[way](callers[0], photo)
    taken, rate = at_once(clients, lambda number: WAYS[way](callers[number], photo), effort)
    settings = {"way": way, "clients": clients, **_settings()}
    figures = {"images_per_second": round(rate, 2), **spread(taken), "images": len(taken)}
    return Measurement("service.load", settings, figures)


def _settings() -> dict[str, str]:
    photo = coffee()
    return {"image": f"{photo.width}x{photo.height}"}
