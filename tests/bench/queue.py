"""The queue path without a model: a real Valkey, a real object store and one real worker with nothing to compute.

submission: jobs are recorded while thousands are queued and no worker runs; no image and no objects.
transport: a job is recorded, published, claimed and completed in the job store; no image and no objects.
interactive: a small image is submitted, and the reply is waited for as in the gateway.
batch: images are stored in the bucket; label map, masks, overlay and result are stored there as well.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import redis

from deploy.local.processes import Process
from deploy.local.servers import REGION, ObjectPorts, ObjectServer, ValkeyServer, free_ports
from shared.broker.envelope import encode_message
from shared.jobs.events import JobEvents
from shared.jobs.messages import job_queue, queue_name
from shared.jobs.model import ImageFacts, Job, JobRequest, JobState, Priority
from shared.jobs.payloads import PayloadStore
from shared.jobs.store import InputPayload, JobStore, open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.keys import inbox_key
from tests.bench.measurement import (
    ROOT,
    Measurement,
    Workload,
    latency_summary,
    print_progress,
    read_cpu_seconds,
    stage_medians,
    time_sequential,
)
from tests.support.environment import copy_environment
from tests.support.images import coffee, jpeg
from tests.support.jobs import build_request, build_sync_request, png

T = TypeVar("T")

BUCKET = "bench"
PUBLISHERS = 4
DEADLINE_SECONDS = 120.0
# So many bursts are queued when submission is measured: 4,800 jobs by default.
QUEUED_BURSTS = 12


@dataclass(frozen=True, slots=True)
class Sender:
    """Submits jobs and waits for them as the gateway does."""

    jobs: JobStore
    events: JobEvents
    payloads: PayloadStore
    bucket: Bucket

    def send(self, job: JobRequest, image: bytes = b"") -> None:
        """Submit a job in the gateway's order: first the object, if there is an image, then the job and its message."""
        payload = None
        if not job.input.is_durable:
            payload = InputPayload(image, DEADLINE_SECONDS)
        elif image:
            self.bucket.put(inbox_key(job.id), image, content_type="image/jpeg", metadata={"request": job.to_json()})
        self.jobs.create(job, message=encode_message(job_queue(job)), payload=payload)

    def wait_for_completion(self, job: JobRequest) -> Job:
        """Wait until a job is in a final state, and return it.

        Raises:
            TimeoutError: it was not within DEADLINE_SECONDS.
        """

        def find_final() -> Job | None:
            found = self.jobs.get(job.id)
            return found if found.state.is_final else None

        return _require(self.events.wait_for(job.id, find_final, seconds=DEADLINE_SECONDS))

    def wait_for_reply(self, job: JobRequest) -> bytes:
        """Wait for the reply to a synchronous request, and return it.

        Raises:
            TimeoutError: there was none within DEADLINE_SECONDS.
        """
        found = self.events.wait_for(job.id, lambda: self.payloads.get_reply(job.id), seconds=DEADLINE_SECONDS)
        return _require(found)


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure transport, interactive jobs and batch jobs."""
    with servers() as settings:
        sender = _build_sender(settings)
        server = redis.Redis.from_url(settings.redis_url)
        print_progress("queue: submission")
        yield _measure_submission(sender, server, workload)
        with _worker("transport_worker", settings) as worker:
            print_progress("queue: transport")
            _run_job(sender)
            pids = {"client": os.getpid(), "redis": server.info("server")["process_id"], "worker": worker.pid}
            yield _measure_transport(sender, pids, workload)
        with _worker("instant_worker", settings):
            print_progress("queue: interactive")
            _run_interactive_job(sender)
            yield _measure_interactive(sender, workload)
            print_progress("queue: batch")
            yield _measure_batch(sender, workload)


def _measure_submission(sender: Sender, server: "redis.Redis", workload: Workload) -> Measurement:
    """Fill the queue, measure how fast more jobs are recorded, and empty Redis again."""
    queued = QUEUED_BURSTS * workload.burst_jobs
    empty_bytes = server.info("memory")["used_memory"]
    _submit(sender, [build_request() for _ in range(queued)])
    queued_bytes = server.info("memory")["used_memory"]
    jobs = [build_request() for _ in range(workload.burst_jobs)]
    start = time.perf_counter()
    _submit(sender, jobs)
    rate = len(jobs) / (time.perf_counter() - start)
    server.flushall()
    figures = {"jobs_per_second": round(rate, 1), "redis_bytes_per_job": round((queued_bytes - empty_bytes) / queued)}
    return Measurement("queue.submission", {"queued": queued}, figures)


def _measure_transport(sender: Sender, pids: Mapping[str, int], workload: Workload) -> Measurement:
    latencies = latency_summary(time_sequential(lambda: _run_job(sender), workload))
    before = {name: read_cpu_seconds(pid) for name, pid in pids.items()}
    _, rate = _run_burst(sender, workload.burst_jobs)
    cpu_ms = {
        name: round(1000 * (read_cpu_seconds(pid) - before[name]) / workload.burst_jobs, 2)
        for name, pid in pids.items()
    }
    figures = {"jobs_per_second": round(rate, 1), **latencies, "cpu_ms": cpu_ms}
    return Measurement("queue.transport", {"burst": workload.burst_jobs}, figures)


def _measure_interactive(sender: Sender, workload: Workload) -> Measurement:
    jobs: list[JobRequest] = []
    figures = latency_summary(time_sequential(lambda: jobs.append(_run_interactive_job(sender)), workload))
    return Measurement("queue.interactive", {"image": "6x4"}, {**figures, "stages_ms": _stage_medians(sender, jobs)})


def _measure_batch(sender: Sender, workload: Workload) -> Measurement:
    image = coffee()
    jobs, rate = _run_burst(sender, max(1, workload.burst_jobs // 4), jpeg(image))
    settings = {"burst": len(jobs), "image": f"{image.width}x{image.height}"}
    figures = {"jobs_per_second": round(rate, 1), "stages_ms": _stage_medians(sender, jobs)}
    return Measurement("queue.batch", settings, figures)


def _run_job(sender: Sender) -> None:
    job = build_request()
    sender.send(job)
    sender.wait_for_completion(job)


def _run_interactive_job(sender: Sender) -> JobRequest:
    job = build_sync_request(deadline_at=time.time() + DEADLINE_SECONDS)
    sender.send(job, png())
    sender.wait_for_reply(job)
    return job


def _run_burst(sender: Sender, count: int, image: bytes = b"") -> tuple[Sequence[JobRequest], float]:
    """Submit `count` jobs; return them and the jobs per second from the first submission to the last completion."""
    facts = ImageFacts("jpeg", 0, 0, len(image), "00" * 32)
    jobs = [build_request(image=facts) for _ in range(count)]
    start = time.perf_counter()
    _submit(sender, jobs, image)
    _poll(
        lambda: (
            not sender.jobs.queues.backlog(queue_name(jobs[0].model, Priority.NORMAL))
            and not sender.jobs.queues.running_count()
        )
    )
    elapsed_seconds = time.perf_counter() - start
    _require_success(sender, jobs)
    return jobs, count / elapsed_seconds


def _submit(sender: Sender, jobs: Sequence[JobRequest], image: bytes = b"") -> None:
    with ThreadPoolExecutor(PUBLISHERS) as threads:
        list(threads.map(lambda job: sender.send(job, image), jobs))


def _stage_medians(sender: Sender, jobs: Sequence[JobRequest]) -> dict[str, float]:
    # A synchronous job is still being stored when its reply arrives.
    return stage_medians(sender.wait_for_completion(job).timings_ms for job in jobs)


def _require_success(sender: Sender, jobs: Sequence[JobRequest]) -> None:
    lost = [job.id for job in jobs if sender.jobs.get(job.id).state is not JobState.SUCCEEDED]
    if lost:
        raise RuntimeError(f"{len(lost)} of {len(jobs)} jobs did not succeed")


def _poll(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_done():
        if time.monotonic() > deadline:
            raise TimeoutError("the jobs were not completed in time")
        time.sleep(0.005)


def _require(found: T | None) -> T:
    if found is None:
        raise TimeoutError("the worker did not respond in time")
    return found


def _build_sender(settings: Settings) -> Sender:
    client = connect(settings)
    jobs = open_job_store(client, settings)
    return Sender(
        jobs,
        JobEvents(client),
        PayloadStore(connect(settings, decode=False)),
        open_bucket(settings),
    )


@contextmanager
def servers() -> Iterator[Settings]:
    """Run Valkey and the object store; yield settings that point to them."""
    print_progress("queue: starting the servers")
    with tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder:
        valkey = ValkeyServer(Path(folder) / "valkey", *free_ports(1))
        objects = ObjectServer(Path(folder) / "objects", ObjectPorts.allocate(), "bench-access", "bench-secret")
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
            # No data needs to survive, and an orderly shutdown of the object store is slow.
            objects.kill()


@contextmanager
def _worker(module: str, settings: Settings) -> Iterator[Process]:
    """Run one worker process.  It may not be ready yet; the first job waits for it."""
    environ = copy_environment()
    env = environ | {
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
