"""A host process that is fed from memory:  python -m tests.bench.host_process TASK NUMBER FD FD BYTES

Decoders, the channel to the engine, rendering and the bucket's client are the worker's; only Redis and the object store
are left out.  Started by tests/bench/host.py; TASK is a HostTask as JSON.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from obstore.store import MemoryStore

from shared.jobs.model import ImageFacts
from shared.jobs.store import Claim
from shared.logs import configure_logging
from shared.memory import HOST_MAPPED_BYTES, limit_kept_memory
from shared.settings import Settings
from shared.storage.bucket import Bucket
from shared.storage.keys import inbox_key, result_key
from tests.support.jobs import build_request
from worker.batching.channel import Channel, ChannelClosed
from worker.batching.remote import RemoteBatches, wait_for_model
from worker.host import build_recut_keeper, create_pool, start_decoders
from worker.pipeline.attempt import AttemptRunner, ModelInput
from worker.pipeline.inputs import InputReader
from worker.pipeline.leases import Lease
from worker.pipeline.publication import Publication
from worker.pipeline.rendering import load_renderers
from worker.settings import WorkerSettings
from worker.slabs import SlabAllocator, SlabPool

MAX_PIXELS = 10**8


@dataclass(frozen=True, slots=True)
class HostTask:
    """What each host does.

    folder: where `image` is read, results are written, and the file `start` appears when all hosts are to begin.
    cores: the core of each host by its number, repeated; empty means all.
    """

    folder: str
    formats: tuple[str, ...]
    threads: int
    seconds: float
    cores: tuple[int, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        wire = json.loads(text)
        return cls(**wire | {"formats": tuple(wire["formats"]), "cores": tuple(wire["cores"])})


def main(arguments: Sequence[str]) -> int:
    limit_kept_memory(mapped_bytes=HOST_MAPPED_BYTES)
    task = HostTask.from_json(arguments[0])
    number, channel_fd, pool_fd, pool_bytes = map(int, arguments[1:])
    if task.cores:
        os.sched_setaffinity(0, {task.cores[(number - 1) % len(task.cores)]})
    configure_logging(Settings(log_level="error"), process="bench")
    folder = Path(task.folder)
    image = (folder / "image").read_bytes()
    with ExitStack() as stack:
        attempts = build_attempts(Channel.from_fd(channel_fd), SlabPool.attach(pool_fd, pool_bytes), stack)
        for _ in range(task.threads):
            run_one_job(attempts, image, task.formats)
        (folder / f"ready-{number}").touch()
        while not (folder / "start").exists():
            time.sleep(0.01)
        timings = run_jobs(attempts, image, task)
        (folder / f"result-{number}.part").write_text(json.dumps(timings))
        (folder / f"result-{number}.part").rename(folder / f"result-{number}")
        threading.Event().wait()  # so that CPU time of this process and its children can be read
    return 0


def build_attempts(channel: Channel, pool: SlabPool, stack: ExitStack) -> AttemptRunner:
    """Return the attempts of a host without Redis: its jobs' inputs are in memory, and no caller waits."""
    absent: Any = None
    settings = WorkerSettings()
    decoders = start_decoders(settings, SlabAllocator(create_pool(settings, stack)), stack)
    model = wait_for_model(channel)
    batches = RemoteBatches(channel, SlabAllocator(pool), allocation_timeout_seconds=60)
    threading.Thread(target=receive, args=[batches], daemon=True).start()
    memory = MemoryStore()
    bucket = Bucket(memory, memory)
    return AttemptRunner(
        inputs=InputReader(
            bucket, absent, absent, absent, absent, max_pixels=MAX_PIXELS, max_side=settings.max_image_side
        ),
        decoders=decoders,
        model=ModelInput(model.revision, model.resize, model.can_scale_decode),
        batches=batches,
        renderers=load_renderers(),
        payloads=absent,
        clock=absent,
        publication=Publication(absent, bucket, bucket, absent, 0.0),
        max_pixels=MAX_PIXELS,
        max_side=settings.max_image_side,
        recuts=build_recut_keeper(settings, model),
    )


def receive(batches: RemoteBatches) -> None:
    with suppress(ChannelClosed):
        batches.receive()


def run_jobs(attempts: AttemptRunner, image: bytes, task: HostTask) -> dict[str, Any]:
    """Run jobs in a closed loop on each thread; return the milliseconds of each stage of each job, and the duration."""
    start = time.monotonic()

    def run_until_over() -> list[dict[str, float]]:
        timings = [run_one_job(attempts, image, task.formats)]
        while time.monotonic() - start < task.seconds:
            timings.append(run_one_job(attempts, image, task.formats))
        return timings

    with ThreadPoolExecutor(task.threads) as threads:
        by_thread = [future.result() for future in [threads.submit(run_until_over) for _ in range(task.threads)]]
    return {"timings": [one for timings in by_thread for one in timings], "seconds": time.monotonic() - start}


def run_one_job(attempts: AttemptRunner, image: bytes, formats: tuple[str, ...]) -> dict[str, float]:
    """Store an input, run its job and store the result; return the milliseconds of each stage."""
    job = build_request(image=ImageFacts("jpeg", 0, 0, len(image), "00" * 32), formats=formats)
    attempts.publication.bucket.put(inbox_key(job.id), image, content_type="image/jpeg")
    result = attempts.store(attempts.segment(Lease(Claim(job, 1, "1-bench"))))
    attempts.publication.bucket.put_first(result_key(job.id), result.to_json(), content_type="application/json")
    attempts.publication.bucket.delete([inbox_key(job.id)])
    return dict(result.timings_ms)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
