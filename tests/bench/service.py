"""The whole service as real processes, gateway included, compared with transformers' pipeline called in process.

The first line compares one client of the gateway with calls in process, interleaved; the others measure the gateway
under the load of concurrent clients.
"""

import http.client
import json
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
from tests.bench.engine import PARAMETERS
from tests.bench.measurement import (
    Measurement,
    Workload,
    device_name,
    latency_summary,
    print_progress,
    stage_medians,
    time_concurrent,
    time_interleaved,
)
from tests.bench.reference import THRESHOLD, load_embedded_segmenter, load_reference_pipeline
from tests.bench.segmentation import segment_images
from tests.support.environment import copy_environment
from tests.support.images import coffee, jpeg
from worker.decoding.pixels import decode
from worker.engine.execution_plan import ExecutionOptions

SYNC = f"/models/maskmill/embedded?threshold={THRESHOLD}"
JOBS = f"/v1/jobs?threshold={THRESHOLD}"
TIMEOUT_SECONDS = 120
MAX_PIXELS = 10**8
# Stages that a call of the engine in process goes through as well.
ENGINE_STAGES = ("decode", "device")


class Client:
    """A client of the gateway with one persistent connection, like a session of an HTTP library.  Not thread-safe."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_SECONDS)

    def close(self) -> None:
        self._connection.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, *, use_cache: bool = True
    ) -> tuple[Mapping[str, str], Any]:
        """Send one request; return the response's headers and its parsed JSON body.

        Raises:
            RuntimeError: the gateway responded with an error.
        """
        headers = {"x-use-cache": str(use_cache).lower()} | ({"Content-Type": "image/jpeg"} if body else {})
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 300:
            raise RuntimeError(f"the gateway responded {response.status}: {content[:200].decode(errors='replace')}")
        return dict(response.headers), json.loads(content)

    def segment(self, image: bytes, *, use_cache: bool = False) -> str:
        """Segment an image synchronously; return the id of its job."""
        headers, _ = self.request("POST", SYNC, image, use_cache=use_cache)
        return headers["x-maskmill-job-id"]

    def run_job(self, image: bytes) -> str:
        """Submit an image as a job and wait until it has succeeded; return its id."""
        _, job = self.request("POST", JOBS, image)
        return str(self.wait_for_job(job["id"])["id"])

    def wait_for_job(self, job_id: str) -> dict[str, Any]:
        """Wait until a job has succeeded, and return it.

        Raises:
            RuntimeError: it ended in another state, or the gateway responded with an error.
        """
        job = {"state": "queued"}
        while job["state"] in ("queued", "running"):
            _, job = self.request("GET", f"/v1/jobs/{job_id}?wait=20")
        if job["state"] != "succeeded":
            raise RuntimeError(f"the job {job_id} {job['state']}")
        return job


# By the value of the setting `way` in the output.
MODES: Mapping[str, Callable[[Client, bytes], str]] = {
    "sync": Client.segment,
    "sync, answered before": partial(Client.segment, use_cache=True),
    "job": Client.run_job,
}


def run(workload: Workload) -> Iterator[Measurement]:
    """Start a stack with default settings; measure synchronous requests and jobs."""
    environ = copy_environment()
    image = jpeg(coffee())
    print_progress("service: starting the stack")
    with (
        tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder,
        Stack(Path(folder), environ=environ) as stack,
    ):
        stack.start()
        print_progress("service: one client, interleaved with calls in process")
        yield _compare_in_process(stack.port, image, workload)
        for mode in MODES:
            for clients in workload.clients:
                print_progress(f"service: {mode}, clients: {clients}")
                yield _measure_load(stack.port, image, mode, clients, workload)


def _compare_in_process(port: int, image: bytes, workload: Workload) -> Measurement:
    """Compare synchronous requests and jobs of one client with the pipeline and the engine in this process."""
    # The worker runs the same forward pass, by default.
    segmenter = load_embedded_segmenter(ExecutionOptions("fast"))
    pipeline = load_reference_pipeline(segmenter.device)
    client = Client(port)
    job_ids: dict[str, list[str]] = defaultdict(list)
    calls: dict[str, Callable[[], object]] = {
        "pipeline": lambda: pipeline(Image.open(BytesIO(image)), threshold=THRESHOLD),
        "engine": lambda: segment_images(segmenter, [decode(image, max_pixels=MAX_PIXELS)], 1, PARAMETERS),
        "sync": lambda: job_ids["sync"].append(client.segment(image)),
        "job": lambda: job_ids["job"].append(client.run_job(image)),
    }
    for call in calls.values():
        call()
    job_ids.clear()
    times_ms = time_interleaved(calls, workload)
    medians = {f"{name}_ms": round(statistics.median(rounds), 1) for name, rounds in times_ms.items()}
    figures = medians | {"pipeline_images_per_second": round(1000 / medians["pipeline_ms"], 2)}
    stages: dict[str, Any] = {}
    for mode, ids in job_ids.items():
        timings = [client.wait_for_job(job_id)["timings_ms"] for job_id in ids]
        figures[f"{mode}_added_ms"] = round(statistics.median(map(_added_ms, times_ms[mode], timings)), 1)
        stages[f"{mode}_stages_ms"] = stage_medians(timings)
    return Measurement("service.beside", _image_setting(), figures | stages, device_name(segmenter.device))


def _added_ms(elapsed_ms: float, timings_ms: Mapping[str, float]) -> float:
    """Return the time that the client waited beyond the engine's own work on the same image."""
    return elapsed_ms - sum(timings_ms[stage] for stage in ENGINE_STAGES)


def _measure_load(port: int, image: bytes, mode: str, clients: int, workload: Workload) -> Measurement:
    connections = [Client(port) for _ in range(clients)]
    call = MODES[mode]
    call(connections[0], image)
    times_ms, rate = time_concurrent(clients, lambda number: call(connections[number], image), workload)
    settings = {"way": mode, "clients": clients, **_image_setting()}
    figures = {"images_per_second": round(rate, 2), **latency_summary(times_ms), "images": len(times_ms)}
    return Measurement("service.load", settings, figures)


def _image_setting() -> dict[str, str]:
    image = coffee()
    return {"image": f"{image.width}x{image.height}"}
