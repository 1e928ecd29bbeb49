"""Synchronous calls while thousands of jobs are queued, and what the backlog itself costs.

First calls of an idle service are timed.  Then clients submit jobs as fast as the gateway takes them, and while the
worker runs them calls are timed again; the rate of jobs is counted with and without calls.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import redis
from PIL import Image

from deploy.local.stack import Stack
from shared.jobs.messages import queue_name
from shared.jobs.model import Priority
from shared.jobs.store import JobStore, open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from tests.bench.measurement import Measurement, Workload, latency_summary, print_progress, time_call_ms
from tests.bench.service import Client
from tests.support.environment import copy_environment
from tests.support.images import astronaut, jpeg
from tests.support.jobs import MODEL

SIZE = (640, 480)
SUBMITTERS = 8
JOBS_PER_BURST_JOB = 12.5
# Between two calls: they are those of an occasional user, and not a second load.
CALL_INTERVAL_SECONDS = 0.5
PATH = "/v1/jobs?formats=labels"


def run(workload: Workload) -> Iterator[Measurement]:
    """Start a stack with default settings, and measure it idle and behind a backlog."""
    environ = copy_environment()
    forward = {"MASKMILL_FORWARD": os.environ["BENCH_FORWARD"]} if "BENCH_FORWARD" in os.environ else {}
    with (
        tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder,
        Stack(Path(folder), environ=environ | forward) as stack,
    ):
        print_progress("backlog: starting the stack")
        stack.start()
        settings = Settings(redis_url=stack.valkey.url)
        jobs = open_job_store(connect(settings), settings)
        image = jpeg(astronaut().resize(SIZE, Image.Resampling.BICUBIC))
        yield Measurement("backlog", {"queued": 0}, time_calls(stack, image, workload))
        count = int(JOBS_PER_BURST_JOB * workload.burst_jobs)
        print_progress(f"backlog: submitting {count} jobs")
        yield measure_submission(stack, jobs, image, count)
        print_progress("backlog: jobs alone, then with calls")
        rate, _ = count_jobs(jobs, lambda: time.sleep(3 * workload.seconds))
        rate_with_calls, calls = count_jobs(jobs, lambda: time_calls(stack, image, workload))
        figures = {"jobs_per_second": rate, "jobs_per_second_with_calls": rate_with_calls, **calls}
        yield Measurement("backlog", {"queued": count}, figures)


def time_calls(stack: Stack, image: bytes, workload: Workload) -> dict[str, float]:
    """Time synchronous calls of one client, one after the other."""
    client = Client(stack.port)
    client.segment(image)
    times_ms: list[float] = []
    end = time.monotonic() + 5 * workload.seconds
    while time.monotonic() < end or len(times_ms) < workload.min_calls:
        times_ms.append(time_call_ms(lambda: client.segment(image)))
        time.sleep(min(CALL_INTERVAL_SECONDS, workload.seconds))
    return {**latency_summary(times_ms), "calls": len(times_ms)}


def measure_submission(stack: Stack, jobs: JobStore, image: bytes, count: int) -> Measurement:
    """Submit jobs from concurrent clients while the worker runs them."""
    clients = [Client(stack.port) for _ in range(SUBMITTERS)]
    times_ms: list[float] = []

    def submit_share(number: int) -> None:
        for _ in range(number, count, SUBMITTERS):
            times_ms.append(time_call_ms(lambda: clients[number].request("POST", PATH, image)))

    before = read_redis_bytes(stack)
    start = time.monotonic()
    with ThreadPoolExecutor(SUBMITTERS) as threads:
        list(threads.map(submit_share, range(SUBMITTERS)))
    seconds = time.monotonic() - start
    figures = {
        "submissions_per_second": round(count / seconds, 1),
        **latency_summary(times_ms),
        "redis_bytes_per_job": round((read_redis_bytes(stack) - before) / max(1, backlog(jobs))),
    }
    return Measurement("backlog.submission", {"jobs": count, "clients": SUBMITTERS}, figures)


def count_jobs(jobs: JobStore, work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how many jobs a second leave the queue while a function runs, and its result."""
    queued, start = backlog(jobs), time.monotonic()
    result = work()
    return round((queued - backlog(jobs)) / (time.monotonic() - start), 2), result


def backlog(jobs: JobStore) -> int:
    return jobs.queues.backlog(queue_name(MODEL, Priority.NORMAL))


def read_redis_bytes(stack: Stack) -> int:
    """Return the memory that Redis uses for data."""
    with closing(redis.Redis.from_url(stack.valkey.url)) as client:
        return int(client.info("memory")["used_memory"])
