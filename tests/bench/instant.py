"""The whole service with a model that answers at once: jobs per second end to end, and where the CPU time goes.

Clients submit 640x480 JPEGs by POST /v1/jobs over real HTTP; gateway, Valkey, object store, hosts and steward are those
of the one-machine stack.  The object store stands for any S3 service, so its CPU time is reported apart.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from deploy.local.processes import Process
from deploy.local.stack import Stack
from shared.jobs.messages import queue_name
from shared.jobs.model import Priority
from shared.jobs.store import JobStore, open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from tests.bench.cpu_time import read_cpu_seconds
from tests.bench.measurement import Measurement, Workload, print_progress
from tests.bench.service import Client
from tests.support.environment import copy_environment
from tests.support.images import astronaut, jpeg
from tests.support.jobs import MODEL
from tests.support.polling import wait_until

SIZE = (640, 480)
CLIENTS = 4
FORMATS = ("labels", "labels,masks", "labels,overlay,masks")
DEADLINE_SECONDS = 300.0
WORKER = ("tests.bench.instant_worker", "blobs")
CORES = len(os.sched_getaffinity(0))


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure bursts of jobs with each selection of formats."""
    environ = copy_environment()
    with tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder:
        stack = Stack(Path(folder), environ=environ)
        stack.worker.command[-1:] = WORKER
        with stack:
            print_progress("instant: starting the stack")
            stack.start()
            yield from measure_bursts(stack, workload)


def measure_bursts(stack: Stack, workload: Workload) -> Iterator[Measurement]:
    settings = Settings(redis_url=stack.valkey.url)
    jobs = open_job_store(connect(settings), settings)
    for formats in FORMATS:
        print_progress(f"instant: {formats}")
        run_burst(stack, jobs, formats, max(8, workload.burst_jobs // 8))
        yield measure_burst(stack, jobs, formats, workload.burst_jobs)


def measure_burst(stack: Stack, jobs: JobStore, formats: str, count: int) -> Measurement:
    """Submit jobs as fast as the gateway takes them, and wait until the last one is complete."""
    before = read_cpu_by_process(stack)
    seconds = run_burst(stack, jobs, formats, count)
    after = read_cpu_by_process(stack)
    cpu_ms = {name: round(1000 * (after[name] - before[name]) / count, 2) for name in after}
    of_service = sum(cpu_ms.values()) - cpu_ms["object store"]
    figures = {
        "jobs_per_second": round(count / seconds, 1),
        "cpu_ms_per_job": round(of_service, 2),
        "jobs_per_second_of_all_cores": round(1000 * CORES / of_service, 1),
        "objects_per_job": 2 + len(formats.split(",")),
        **{f"{name} ms": elapsed for name, elapsed in cpu_ms.items()},
    }
    return Measurement("instant", {"image": "x".join(map(str, SIZE)), "formats": formats, "jobs": count}, figures)


def run_burst(stack: Stack, jobs: JobStore, formats: str, count: int) -> float:
    """Run jobs, and return the seconds from the first submission to the last completion."""
    image = jpeg(astronaut().resize(SIZE, Image.Resampling.BICUBIC))
    path = f"/v1/jobs?formats={formats}"
    clients = [Client(stack.port) for _ in range(CLIENTS)]

    def submit_share(number: int) -> None:
        for _ in range(number, count, CLIENTS):
            clients[number].request("POST", path, image)

    queue = queue_name(MODEL, Priority.NORMAL)
    start = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(submit_share, range(CLIENTS)))
    wait_until(lambda: not jobs.queues.backlog(queue) and not jobs.queues.running_count(), seconds=DEADLINE_SECONDS)
    return time.monotonic() - start


def read_cpu_by_process(stack: Stack) -> dict[str, float]:
    """Return the CPU seconds that each part of the service has used so far, descendants included."""
    parts: dict[str, Process] = {
        "gateway": stack.gateway,
        "valkey": stack.valkey,
        "worker": stack.worker,
        "steward": stack.steward,
        "object store": stack.objects,
    }
    return {name: read_cpu_seconds([process.pid]) for name, process in parts.items()}
