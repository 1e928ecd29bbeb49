"""Throughput of a worker's host side with a segmenter that returns at once: decode, prepare, render, store; no queue.

Jobs run on threads of one process, as in a worker, against a bucket in memory, so that no server shares the cores; then
once more against a real object store on this machine.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
from obstore.store import MemoryStore
from PIL import Image

from shared.errors import MaskmillError
from shared.jobs.model import ImageFacts
from shared.jobs.result import Segment
from shared.jobs.store import Claim
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.keys import inbox_key, result_key
from tests.bench.measurement import Measurement, Workload, print_progress, stage_medians, time_concurrent
from tests.bench.queue import servers
from tests.bench.reference import load_embedded_segmenter
from tests.support.images import astronaut, jpeg
from tests.support.jobs import build_request
from worker.batching.local import LocalBatches
from worker.batching.policy import BatchLimits
from worker.batching.scheduler import BatchScheduler
from worker.pipeline.attempt import AttemptRunner
from worker.pipeline.inputs import InputReader
from worker.pipeline.leases import Lease
from worker.pipeline.rendering import load_renderers
from worker.segmenter import ModelImage, Prepared, Segmentation, Segmenter

SEGMENTS = 15
THREADS = (1, 2, 4, 8)
WITH_STORE = 4
MAX_PIXELS = 10**8


class InstantSegmenter:
    """Prepares images like the embedded model, and returns a precomputed segmentation of the image's size."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.model = segmenter.model
        self.revision = segmenter.revision
        self.device = segmenter.device
        self.resize = segmenter.resize
        self._segmenter = segmenter

    def prepare(self, image: ModelImage) -> Prepared:
        return self._segmenter.prepare(image)

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        return [blob_segmentation(prepared.width, prepared.height) for prepared in batch]

    def warm_up(self) -> None:
        pass


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


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure each image size with each number of threads, then with a real object store."""
    segmenter = InstantSegmenter(load_embedded_segmenter())
    memory = MemoryStore()
    for size in workload.host_sizes:
        for threads in THREADS:
            yield measure_throughput(segmenter, Bucket(memory, memory), "memory", size, threads, workload)
    with servers() as settings:
        for size in workload.host_sizes:
            yield measure_throughput(segmenter, open_bucket(settings), "server", size, WITH_STORE, workload)


def measure_throughput(
    segmenter: InstantSegmenter, bucket: Any, store: str, size: tuple[int, int], threads: int, workload: Workload
) -> Measurement:
    """Run jobs in a closed loop on each thread.

    Args:
        store: name of the kind of bucket in the output.
        size: (width, height) of the image.
    """
    print_progress(f"host: {size[0]}x{size[1]}, threads: {threads}, store: {store}")
    image = jpeg(astronaut().resize(size, Image.Resampling.BICUBIC))
    scheduler = BatchScheduler(segmenter, BatchLimits(max_images=16, max_wait_seconds=0.01), batch_timeout_seconds=60)
    attempts = build_attempts(segmenter, scheduler, bucket)
    timings: list[dict[str, float]] = []
    with ExitStack() as stack:
        scheduler.start().result()
        stack.callback(scheduler.stop)
        run_one_job(attempts, image)
        cpu_start = time.process_time()
        half = replace(workload, seconds=workload.seconds / 2, min_calls=1)
        times_ms, rate = time_concurrent(threads, lambda _: timings.append(run_one_job(attempts, image)), half)
        cpu_ms = 1000 * (time.process_time() - cpu_start)
    settings = {"image": f"{size[0]}x{size[1]}", "segments": SEGMENTS, "store": store, "threads": threads}
    return Measurement("host", settings, _figures(len(times_ms), rate, cpu_ms, timings))


def _figures(jobs: int, rate: float, cpu_ms: float, timings: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the figures of one series of jobs.

    Args:
        rate: jobs per second.
        cpu_ms: CPU time of all jobs.
        timings: milliseconds of each stage, by job.
    """
    return {
        "jobs_per_second": round(rate, 2),
        "cpu_ms_per_job": round(cpu_ms / jobs, 1),
        "jobs_per_core_second": round(1000 * jobs / cpu_ms, 2),
        "jobs": jobs,
        "stages_ms": {name: median for name, median in stage_medians(timings).items() if name != "queue"},
    }


def run_one_job(attempts: AttemptRunner, image: bytes) -> dict[str, float]:
    """Store an input, run its job and store the result; return the milliseconds of each stage."""
    job = build_request(image=ImageFacts("jpeg", 0, 0, len(image), "00" * 32))
    attempts.bucket.put(inbox_key(job.id), image, content_type="image/jpeg")
    result = attempts.store(attempts.segment(Lease(Claim(job, 1))))
    attempts.bucket.put_first(result_key(job.id), result.to_json(), content_type="application/json")
    attempts.bucket.delete([inbox_key(job.id)])
    return dict(result.timings_ms)


def build_attempts(segmenter: InstantSegmenter, scheduler: BatchScheduler, bucket: Bucket) -> AttemptRunner:
    """Return the attempts of a worker without Redis: its jobs' inputs are in the bucket, and no caller waits."""
    absent: Any = None
    return AttemptRunner(
        inputs=InputReader(bucket, absent),
        model_revision=segmenter.revision,
        resize=segmenter.resize,
        batches=LocalBatches(segmenter, scheduler),
        renderers=load_renderers(),
        payloads=absent,
        bucket=bucket,
        max_pixels=MAX_PIXELS,
    )
