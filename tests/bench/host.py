"""Throughput of a worker's host processes with a model that answers at once: decode, render, store; no queue.

Each host is a process as in a worker, with its decoders and its channel to the engine, which is this process; inputs
and results are in the host's memory, so that no server shares the cores.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from shared.errors import MaskmillError
from shared.jobs.result import Segment
from shared.settings import read_settings
from shared.worker_registry import ModelFacts
from tests.bench.cpu_time import read_cpu_seconds
from tests.bench.host_process import HostTask
from tests.bench.measurement import Measurement, Workload, print_progress, stage_medians
from tests.support.images import astronaut, jpeg
from tests.support.jobs import MODEL
from tests.support.polling import wait_until
from worker.batching.local import LocalBatches
from worker.batching.messages import ModelLoaded
from worker.batching.policy import BatchLimits
from worker.batching.scheduler import BatchScheduler
from worker.recut.kept import KeptLogits, RecutModel
from worker.runtime.hosts import HostProcesses
from worker.runtime.sizing import count_cores, count_pool_bytes
from worker.segmenter import ForwardPass, ModelImage, Prepared, Resize, Segmentation
from worker.settings import WorkerSettings

SEGMENTS = 15
HOSTS = (1, 2, 4)
THREADS = 4
TIMEOUT_SECONDS = 120.0
FORMATS: Mapping[str, tuple[str, ...]] = {
    "labels": ("labels",),
    "labels, masks": ("labels", "masks"),
    "labels, overlay, masks": ("labels", "overlay", "masks"),
}
# Of the embedded model.
RESIZE = Resize(320, 320, int(Image.Resampling.BILINEAR))


class InstantSegmenter:
    """Takes images of the size of the embedded model's, and returns a precomputed segmentation of the image's size."""

    model = MODEL
    revision = "0"
    device = "cpu"
    resize: Resize | None = RESIZE
    forward_pass = ForwardPass()
    facts = ModelFacts()
    recut_model: RecutModel | None = RecutModel({number: f"class {number}" for number in range(40)}, None)

    def prepare(self, image: ModelImage) -> Prepared:
        return Prepared(None, image.height, image.width, image.parameters, image.keep)

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        return [
            replace(blob_segmentation(prepared.width, prepared.height), kept=noisy_logits() if prepared.keep else None)
            for prepared in batch
        ]

    def warm_up(self) -> None:
        pass


@cache
def noisy_logits() -> KeptLogits:
    """Return logits of the embedded model's shapes, of which the masks of 20 queries of 88 are kept."""
    rng = np.random.default_rng(3)
    masks = rng.normal(0, 6, (20, 80, 80)).astype(np.float32)
    return KeptLogits(0.05, rng.normal(0, 6, (88, 41)).astype(np.float32), np.arange(20), masks)


@cache
def blob_segmentation(width: int, height: int) -> Segmentation:
    """Return SEGMENTS segments with smooth borders that cover the image but for about a sixteenth of it."""
    rng = np.random.default_rng(3)
    coarse = rng.random((6, 8, SEGMENTS + 1)).astype(np.float32)
    scores = [cv2.resize(coarse[:, :, n], (width // 4, height // 4), interpolation=cv2.INTER_CUBIC) for n in range(16)]
    small = np.argmax(scores, axis=0).astype(np.uint8)
    label_map = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    return Segmentation(label_map, tuple(measure_segment(label_map, number) for number in range(1, SEGMENTS + 1)))


def measure_segment(label_map: np.ndarray, number: int) -> Segment:
    """Return the segment with this id in a label map, (H, W) uint8."""
    mask = cv2.inRange(label_map, number, number)
    x, y, width, height = cv2.boundingRect(mask)
    return Segment(number, f"thing {number}", number, 0.97, cv2.countNonZero(mask), (x, y, width, height))


class NoMetrics:
    """Ignores what happens to jobs."""

    def job_completed(self, *_: object) -> None:
        pass

    def job_dropped(self, *_: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Series:
    """One series of jobs.

    size: (width, height) of the image.
    is_pinned: whether each host has a core of its own.
    is_scaled: whether the model allows to decode a JPEG at a fraction of its size.
    keeps_logits: whether logits are kept for recuts.
    threads: of each host.  With one thread no stage waits for another job, so its time is that of the processor.
    """

    size: tuple[int, int]
    formats: str
    hosts: int
    is_pinned: bool = False
    is_scaled: bool = False
    keeps_logits: bool = False
    threads: int = THREADS

    @property
    def settings(self) -> dict[str, Any]:
        image = f"{self.size[0]}x{self.size[1]}"
        options = {"pinned": self.is_pinned, "scaled decoding": self.is_scaled, "recut": self.keeps_logits}
        chosen = {name: "yes" for name, is_chosen in options.items() if is_chosen}
        counts = {"segments": SEGMENTS, "hosts": self.hosts, "threads": self.threads}
        return {"image": image, "formats": self.formats, **counts, **chosen}


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure each image size with each selection of formats, then more hosts, then hosts on a core of their own."""
    for size in workload.host_sizes:
        for formats in FORMATS:
            yield measure_series(Series(size, formats, 1), workload)
        yield measure_series(Series(size, "labels", 1, is_scaled=True), workload)
        yield measure_series(Series(size, "labels", 1, keeps_logits=True), workload)
        yield measure_series(Series(size, "labels, overlay, masks", 1, threads=1), workload)
    small = workload.host_sizes[0]
    for hosts in HOSTS[1:]:
        yield measure_series(Series(small, "labels", hosts), workload)
    for hosts in range(1, count_cores() + 1)[:2]:
        yield measure_series(Series(small, "labels", hosts, is_pinned=True), workload)


def measure_series(series: Series, workload: Workload) -> Measurement:
    """Run jobs in a closed loop on each thread of each host."""
    print_progress(f"host: {series.settings}")
    scheduler = BatchScheduler(InstantSegmenter(), BatchLimits(max_images=16), batch_timeout_seconds=60)
    scheduler.start().result()
    with tempfile.TemporaryDirectory(prefix="maskmill-bench-") as folder:
        (Path(folder) / "image").write_bytes(jpeg(astronaut().resize(series.size, Image.Resampling.BICUBIC)))
        cores = tuple(range(count_cores())) if series.is_pinned else ()
        task = HostTask(folder, FORMATS[series.formats], series.threads, workload.seconds / 2, cores)
        hosts = HostProcesses(
            series.hosts,
            [sys.executable, "-m", "tests.bench.host_process", task.to_json()],
            pool_bytes=count_pool_bytes(read_settings(WorkerSettings)),
            observer=NoMetrics(),
            report_ready=lambda _: None,
            report_failing=lambda: None,
        )
        try:
            hosts.start()
            segmenter = InstantSegmenter()
            model = ModelLoaded(
                segmenter.model,
                segmenter.revision,
                segmenter.device,
                segmenter.resize,
                series.is_scaled,
                segmenter.recut_model if series.keeps_logits else None,
            )
            hosts.serve(model, LocalBatches(segmenter, scheduler))
            figures = run_hosts(hosts, Path(folder))
        finally:
            hosts.kill()
            scheduler.stop()
    return Measurement("host", series.settings, figures)


def run_hosts(hosts: HostProcesses, folder: Path) -> dict[str, Any]:
    """Start all hosts at the same time, and return the figures of their jobs."""
    numbers = range(1, len(hosts.pids) + 1)
    wait_until(lambda: all((folder / f"ready-{one}").exists() for one in numbers), seconds=TIMEOUT_SECONDS)
    cpu_start = read_cpu_seconds(hosts.pids)
    (folder / "start").touch()
    wait_until(lambda: all((folder / f"result-{one}").exists() for one in numbers), seconds=TIMEOUT_SECONDS)
    cpu_ms = 1000 * (read_cpu_seconds(hosts.pids) - cpu_start)
    results = [json.loads((folder / f"result-{one}").read_text()) for one in numbers]
    timings = [timing for result in results for timing in result["timings"]]
    return {
        "jobs_per_second": round(sum(len(result["timings"]) / result["seconds"] for result in results), 2),
        "cpu_ms_per_job": round(cpu_ms / len(timings), 2),
        "jobs": len(timings),
        "stages_ms": {name: median for name, median in stage_medians(timings).items() if name != "queue"},
    }
