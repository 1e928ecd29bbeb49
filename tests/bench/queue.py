"""The queue path without a model: a real Valkey, a real object store and one real worker that has nothing to compute.

transport: a job is recorded, published, claimed and ended in the job store; no image, no objects.
interactive: a small image is checked in, and the reply is waited for as the gateway waits for it.
batch: photos lie in the bucket, and label map, masks, overlay and result go there.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from deploy.local.processes import Process
from deploy.local.servers import REGION, ObjectPorts, ObjectServer, ValkeyServer, free_ports
from shared.jobs.events import JobEvents
from shared.jobs.messages import SegmentMessage, queue_name
from shared.jobs.model import ImageFacts, Job, JobRequest, JobState, Priority
from shared.jobs.payloads import PayloadStore
from shared.jobs.store import Handover, JobStore
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.keys import inbox_key
from tests.bench.measuring import ROOT, Effort, Measurement, median_stages, one_by_one, progress, spread
from tests.support.images import coffee, jpeg
from tests.support.jobs import png, request

T = TypeVar("T")

BUCKET = "bench"
PUBLISHERS = 4
DEADLINE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Sender:
    """The gateway's side of the queue."""

    jobs: JobStore
    events: JobEvents
    payloads: PayloadStore
    bucket: Bucket

    def send(self, job: JobRequest, image: bytes = b"") -> None:
        """Hand in a job in the gateway's order; without an image there is nothing to store."""
        if image and job.priority is Priority.NORMAL:
            self.bucket.put(inbox_key(job.id), image, content_type="image/jpeg", metadata={"request": job.to_json()})
        kept = image if job.priority is Priority.INTERACTIVE else b""
        self.jobs.create(job, handover=Handover(SegmentMessage.about(job), kept, DEADLINE_SECONDS))

    def end_of(self, job: JobRequest) -> Job:
        """Wait for the job store to know how a job ended."""

        def look() -> Job | None:
            found = self.jobs.get(job.id)
            return found if found.state.is_final else None

        return _in_time(self.events.wait_until(job.id, look, seconds=DEADLINE_SECONDS))

    def reply_to(self, job: JobRequest) -> bytes:
        """Wait for what a synchronous caller is answered."""
        found = self.events.wait_until(job.id, lambda: self.payloads.get_reply(job.id), seconds=DEADLINE_SECONDS)
        return _in_time(found)


def run(effort: Effort) -> Iterator[Measurement]:
    """Measure the three ways through the queue."""
    with servers() as settings:
        sender = _sender(settings)
        with _worker("transport_worker", settings):
            progress("queue: transport")
            _round_trip(sender)
            yield _transport(sender, effort)
        with _worker("instant_worker", settings):
            progress("queue: interactive")
            _ask(sender)
            yield _interactive(sender, effort)
            progress("queue: batch")
            yield _batch(sender, effort)


def _transport(sender: Sender, effort: Effort) -> Measurement:
    figures = spread(one_by_one(lambda: _round_trip(sender), effort))
    _, rate = _burst(sender, effort.burst)
    return Measurement("queue.transport", {"burst": effort.burst}, {"jobs_per_second": round(rate, 1), **figures})


def _interactive(sender: Sender, effort: Effort) -> Measurement:
    asked: list[JobRequest] = []
    figures = spread(one_by_one(lambda: asked.append(_ask(sender)), effort))
    return Measurement("queue.interactive", {"image": "6x4"}, {**figures, "stages_ms": _stages(sender, asked)})


def _batch(sender: Sender, effort: Effort) -> Measurement:
    photo = coffee()
    jobs, rate = _burst(sender, max(1, effort.burst // 4), jpeg(photo))
    settings = {"burst": len(jobs), "image": f"{photo.width}x{photo.height}"}
    figures = {"jobs_per_second": round(rate, 1), "stages_ms": _stages(sender, jobs)}
    return Measurement("queue.batch", settings, figures)


def _round_trip(sender: Sender) -> None:
    job = request(priority=Priority.NORMAL)
    sender.send(job)
    sender.end_of(job)


def _ask(sender: Sender) -> JobRequest:
    job = request(priority=Priority.INTERACTIVE, deadline_at=time.time() + DEADLINE_SECONDS)
    sender.send(job, png())
    sender.reply_to(job)
    return job


def _burst(sender: Sender, count: int, image: bytes = b"") -> tuple[Sequence[JobRequest], float]:
    """Return jobs and how many a second came through, from the first that is handed in to the last that ends."""
    facts = ImageFacts("jpeg", 0, 0, len(image), "00" * 32)
    jobs = [request(priority=Priority.NORMAL, image=facts) for _ in range(count)]
    start = time.perf_counter()
    with ThreadPoolExecutor(PUBLISHERS) as threads:
        list(threads.map(lambda job: sender.send(job, image), jobs))
    _wait(lambda: not sender.jobs.backlog(queue_name(jobs[0].model, Priority.NORMAL)) and not sender.jobs.running())
    elapsed_seconds = time.perf_counter() - start
    _insist_succeeded(sender, jobs)
    return jobs, count / elapsed_seconds


def _stages(sender: Sender, jobs: Sequence[JobRequest]) -> dict[str, float]:
    # The last synchronous job is still being stored when its reply is there.
    return median_stages(sender.end_of(job).timings_ms for job in jobs)


def _insist_succeeded(sender: Sender, jobs: Sequence[JobRequest]) -> None:
    lost = [job.id for job in jobs if sender.jobs.get(job.id).state is not JobState.SUCCEEDED]
    if lost:
        raise RuntimeError(f"{len(lost)} of {len(jobs)} jobs did not succeed")


def _wait(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_done():
        if time.monotonic() > deadline:
            raise TimeoutError("the jobs did not end in time")
        time.sleep(0.005)


def _in_time(found: T | None) -> T:
    if found is None:
        raise TimeoutError("the worker did not answer in time")
    return found


def _sender(settings: Settings) -> Sender:
    client = connect(settings)
    jobs = JobStore(
        client,
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        result_ttl_seconds=settings.result_ttl_seconds,
    )
    return Sender(
        jobs,
        JobEvents(client),
        PayloadStore(connect(settings, decode=False)),
        open_bucket(settings),
    )


@contextmanager
def servers() -> Iterator[Settings]:
    """Run both servers, and say how to reach them."""
    progress("queue: starting the servers")
    with tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder:
        valkey = ValkeyServer(Path(folder) / "valkey", *free_ports(1))
        objects = ObjectServer(Path(folder) / "objects", ObjectPorts.free(), "bench-access", "bench-secret")
        with valkey, objects:
            valkey.wait_ready()
            objects.wait_ready().create_bucket(BUCKET)
            yield Settings(
                redis_url=valkey.url,
                storage_endpoint=objects.url,
                storage_bucket=BUCKET,
                storage_region=REGION,
                storage_access_key=objects.access_key,
                storage_secret_key=objects.secret_key,
            )
            # Nothing of it needs to survive, and the store is slow to end in order.
            objects.kill()


@contextmanager
def _worker(module: str, settings: Settings) -> Iterator[Process]:
    """Run one worker; whether it is ready, a first job tells."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")}
    env = plain | {
        "MASKMILL_REDIS_URL": settings.redis_url,
        "MASKMILL_STORAGE_ENDPOINT": settings.storage_endpoint,
        "MASKMILL_STORAGE_BUCKET": settings.storage_bucket,
        "MASKMILL_STORAGE_REGION": settings.storage_region,
        "MASKMILL_STORAGE_ACCESS_KEY": settings.storage_access_key,
        "MASKMILL_STORAGE_SECRET_KEY": settings.storage_secret_key.get_secret_value(),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    with tempfile.TemporaryDirectory(prefix="maskmill-bench-") as folder:
        command = [sys.executable, "-m", f"tests.bench.{module}"]
        with Process(f"The {module}", command, log=Path(folder) / "worker.log", env=env) as worker:
            yield worker
