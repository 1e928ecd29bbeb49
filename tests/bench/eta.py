"""The error of the estimated end of a job: a backlog of images of mixed sizes, a worker that answers at once.

Once all are submitted, jobs are asked by chance for their estimate while they are queued, so from every place, and the
estimates are compared with their ends: in all, and by quarters of the places in line.  Some are printed as they were.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from deploy.local.stack import Stack
from tests.bench.instant import CLIENTS, DEADLINE_SECONDS, WORKER
from tests.bench.measurement import Measurement, Workload, print_progress
from tests.bench.service import Client
from tests.support.environment import copy_environment
from tests.support.images import astronaut, jpeg

SIZES = ((320, 240), (640, 480), (1280, 960), (2560, 1920))
FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
POLL_SECONDS = 0.05
EXAMPLES = 12
QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job said of its place and its end; unix seconds."""

    job_id: str
    position: int
    asked_at: float
    earliest: float
    latest: float


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure one backlog."""
    count = workload.burst_jobs
    with tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder:
        stack = Stack(Path(folder), environ=copy_environment())
        stack.worker.command[-1:] = WORKER
        with stack:
            print_progress("eta: starting the stack")
            stack.start()
            yield measure(stack, count)


def measure(stack: Stack, count: int) -> Measurement:
    images = [jpeg(astronaut().resize(size, Image.Resampling.BICUBIC)) for size in SIZES]
    chosen = random.Random(1).choices(images, k=count)
    print_progress(f"eta: {count} jobs")
    ids = submit(stack, chosen)
    client = Client(stack.port)
    estimates, unknown = ask(client, ids)
    ends = {job_id: wait_for_end(client, job_id) for job_id in ids}
    figures = compare(estimates, ends) | {"unknown": unknown}
    return Measurement("eta", {"jobs": count, "sizes": ["x".join(map(str, size)) for size in SIZES]}, figures)


def submit(stack: Stack, images: Sequence[bytes]) -> list[str]:
    """Submit all images as fast as the gateway takes them; return the ids in the order of the images."""
    clients = [Client(stack.port) for _ in range(CLIENTS)]
    ids = [""] * len(images)

    def submit_share(number: int) -> None:
        for index in range(number, len(images), CLIENTS):
            _, job = clients[number].request("POST", "/v1/jobs?formats=labels", images[index])
            ids[index] = job["id"]

    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(submit_share, range(CLIENTS)))
    return ids


def ask(client: Client, ids: Sequence[str]) -> tuple[list[Estimate], int]:
    """Ask for jobs by chance while any is queued; return the estimates, and how often there was none."""
    order, estimates, unknown = random.Random(2), [], 0
    waiting = list(ids)
    while waiting:
        job_id = order.choice(waiting)
        _, job = client.request("GET", f"/v1/jobs/{job_id}")
        if job["state"] != "queued":
            waiting.remove(job_id)
        elif job["eta"]:
            estimates.append(
                Estimate(job_id, job["queue_position"], time.time(), *map(parse_time, job["eta"].values()))
            )
            time.sleep(POLL_SECONDS)
        else:
            unknown += 1
            time.sleep(POLL_SECONDS)
    return estimates, unknown


def wait_for_end(client: Client, job_id: str) -> float:
    """Return when a job has ended, unix seconds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        _, job = client.request("GET", f"/v1/jobs/{job_id}?wait=10")
        if job["state"] in FINAL:
            return parse_time(job["ended_at"])
    raise TimeoutError(f"job {job_id} did not end")


def parse_time(value: Any) -> float:
    """Return unix seconds of a time of the API."""
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else float(value)


def compare(estimates: Sequence[Estimate], ends: Mapping[str, float]) -> dict[str, Any]:
    """Return the errors of all estimates and of those of each quarter of the places, and examples of both sides."""
    ordered = sorted(estimates, key=lambda one: one.position)
    size = max(1, -(-len(ordered) // QUARTERS))
    quarters = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return {
        **summarize(estimates, ends),
        "by_position": [
            {"positions": [some[0].position, some[-1].position], **summarize(some, ends)} for some in quarters
        ],
        "examples": [describe(one, ends[one.job_id]) for one in estimates[:: max(1, len(estimates) // EXAMPLES)]],
    }


def describe(one: Estimate, end: float) -> dict[str, float]:
    """Return what was told and what came, in seconds from the question on."""
    told = {"earliest": one.earliest, "latest": one.latest, "end": end}
    return {"position": one.position, **{name: round(at - one.asked_at, 2) for name, at in told.items()}}


def summarize(estimates: Sequence[Estimate], ends: Mapping[str, float]) -> dict[str, float]:
    """Return the share of estimates whose range held the end, and the errors of the middle of the range."""
    if not estimates:
        return {"estimates": 0}
    count = len(estimates)
    held = sum(one.earliest <= ends[one.job_id] <= one.latest for one in estimates)
    waits = [max(1.0, ends[one.job_id] - one.asked_at) for one in estimates]
    errors = sorted(
        abs((one.earliest + one.latest) / 2 - ends[one.job_id]) / wait
        for one, wait in zip(estimates, waits, strict=True)
    )
    widths = [(one.latest - one.earliest) / wait for one, wait in zip(estimates, waits, strict=True)]
    return {
        "estimates": count,
        "share_within_range": round(held / count, 3),
        "share_earlier": round(sum(ends[one.job_id] < one.earliest for one in estimates) / count, 3),
        "median_relative_error": round(statistics.median(errors), 3),
        "p90_relative_error": round(errors[int(0.9 * (count - 1))], 3),
        "median_wait_seconds": round(statistics.median(waits), 1),
        "median_width_share": round(statistics.median(widths), 3),
    }
