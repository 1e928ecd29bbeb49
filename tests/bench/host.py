"""What a worker's host side sustains when the device answers at once: decode, prepare, render and store, no queue.

Jobs run on threads of one process, as in a worker, against a bucket in memory, so that the cores are its alone; once
more, with a real object store beside it.
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
from shared.jobs.model import ImageFacts, Priority
from shared.jobs.parameters import SegmentParameters
from shared.jobs.result import Segment
from shared.jobs.store import Claim
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.keys import inbox_key, result_key
from tests.bench.measuring import Effort, Measurement, at_once, median_stages, progress
from tests.bench.queue import servers
from tests.bench.reference import embedded_segmenter
from tests.support.images import astronaut, jpeg
from tests.support.jobs import request
from worker.batching.policy import Limits
from worker.batching.scheduler import BatchScheduler
from worker.pipeline.job import Services, run_attempt
from worker.pipeline.leases import Lease
from worker.segmenter import Prepared, Segmentation, Segmenter

SEGMENTS = 15
THREADS = (1, 2, 4, 8)
WITH_STORE = 4
MAX_PIXELS = 10**8


class ImmediateScheduler:
    """The embedded model's own preparation, and a segmentation that lies ready for each size."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.model = segmenter.model
        self.revision = segmenter.revision
        self.device = segmenter.device
        self._segmenter = segmenter

    def prepare(self, image: Image.Image, parameters: SegmentParameters) -> Prepared:
        return self._segmenter.prepare(image, parameters)

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        return [blobs(prepared.width, prepared.height) for prepared in batch]

    def warm_up(self) -> None:
        pass


@cache
def blobs(width: int, height: int) -> Segmentation:
    """Return segments with smooth borders that share the whole image but for a sixteenth of it."""
    rng = np.random.default_rng(3)
    coarse = rng.random((6, 8, SEGMENTS + 1)).astype(np.float32)
    scores = [cv2.resize(coarse[:, :, n], (width // 4, height // 4), interpolation=cv2.INTER_CUBIC) for n in range(16)]
    small = np.argmax(scores, axis=0).astype(np.uint8)
    label_map = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    return Segmentation(label_map, tuple(measured(label_map, number) for number in range(1, SEGMENTS + 1)))


def measured(label_map: np.ndarray, number: int) -> Segment:
    inside = cv2.inRange(label_map, number, number)
    x, y, width, height = cv2.boundingRect(inside)
    return Segment(number, f"thing {number}", number, 0.97, cv2.countNonZero(inside), (x, y, width, height))


def run(effort: Effort) -> Iterator[Measurement]:
    """Measure each size of photo on more and more threads, and beside a real object store."""
    segmenter = ImmediateScheduler(embedded_segmenter())
    memory = MemoryStore()
    for size in effort.photo_sizes:
        for threads in THREADS:
            yield sustained(segmenter, Bucket(memory, memory), "memory", size, threads, effort)
    with servers() as settings:
        for size in effort.photo_sizes:
            yield sustained(segmenter, open_bucket(settings), "server", size, WITH_STORE, effort)


def sustained(
    segmenter: ImmediateScheduler, bucket: Any, store: str, size: tuple[int, int], threads: int, effort: Effort
) -> Measurement:
    """Run one job after the other on each thread."""
    progress(f"host: {size[0]}x{size[1]}, threads: {threads}, store: {store}")
    photo = jpeg(astronaut().resize(size, Image.Resampling.BICUBIC))
    engine = BatchScheduler(segmenter, Limits(max_images=16, max_wait_seconds=0.01), batch_timeout_seconds=60)
    services = services_of(segmenter, engine, bucket)
    done: list[dict[str, float]] = []
    with ExitStack() as stack:
        engine.start().result()
        stack.callback(engine.stop)
        one_job(services, photo)
        before = time.process_time()
        short = replace(effort, seconds=effort.seconds / 2, least=1)
        taken, rate = at_once(threads, lambda _: done.append(one_job(services, photo)), short)
        cpu_ms = 1000 * (time.process_time() - before) / len(taken)
    figures = {
        "jobs_per_second": round(rate, 2),
        "cpu_ms_per_job": round(cpu_ms, 1),
        "jobs_per_core_second": round(1000 / cpu_ms, 2),
        "jobs": len(taken),
        "stages_ms": {name: elapsed for name, elapsed in median_stages(done).items() if name != "queue"},
    }
    settings = {"image": f"{size[0]}x{size[1]}", "segments": SEGMENTS, "store": store, "threads": threads}
    return Measurement("host", settings, figures)


def one_job(services: Services, photo: bytes) -> dict[str, float]:
    """Bring one job from its input to its result in the bucket; return the milliseconds of its stages."""
    job = request(priority=Priority.NORMAL, image=ImageFacts("jpeg", 0, 0, len(photo), "00" * 32))
    services.bucket.put(inbox_key(job.id), photo, content_type="image/jpeg")
    result = run_attempt(Lease(Claim(job, 1)), services)
    services.bucket.put_first(result_key(job.id), result.to_json(), content_type="application/json")
    services.bucket.delete([inbox_key(job.id)])
    return dict(result.timings_ms)


def services_of(segmenter: ImmediateScheduler, engine: BatchScheduler, bucket: Bucket) -> Services:
    """Return what an attempt at a batch job needs; Redis is not part of that."""
    absent: Any = None
    return Services(
        jobs=absent,
        bucket=bucket,
        payloads=absent,
        leases=absent,
        segmenter=segmenter,
        batches=engine,
        observer=absent,
        worker_id="host",
        max_pixels=MAX_PIXELS,
    )
