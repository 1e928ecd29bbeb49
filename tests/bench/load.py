"""An open loop of twice as many requests as the service completes: how many are accepted and refused, and how fast.

The capacity is measured first, by callers in a closed loop.  Then synchronous requests and jobs begin at random times,
at twice that rate.  Afterwards single calls show how soon the latency is what it was before.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis
from PIL import Image

from deploy.local.stack import Stack
from shared import redis_keys
from shared.jobs.messages import queue_name
from shared.jobs.model import Priority
from tests.bench.measurement import ROOT, Measurement, Workload, print_progress, time_call_ms
from tests.bench.open_loop import Answer, Kind, LoadReport, LoadTask
from tests.bench.service import Client
from tests.support.environment import copy_environment
from tests.support.images import astronaut, jpeg
from tests.support.jobs import MODEL
from tests.support.polling import wait_until

SIZE = (640, 480)
SYNC_PATH = "/models/maskmill/embedded"
FORMATS = "formats=labels,masks"
# Of an open loop; a closed one keeps both queues filled.
KINDS = (
    Kind("sync", SYNC_PATH, 0.5, ["x-use-cache: false"]),
    Kind("job", f"/v1/jobs?{FORMATS}", 0.5),
)
CALLERS = (
    Kind("sync", SYNC_PATH, 0.75, ["x-use-cache: false"]),
    Kind("job", f"{SYNC_PATH}?{FORMATS}", 0.25, ["Prefer: wait=60"]),
)
OVERLOAD = 2.0
SYNC_WAIT_SECONDS = 2.0
# "Back to normal" is measured this long after the last request of the overload.
RECOVERY_SECONDS = 5.0
PROBES = 10
SAMPLE_INTERVAL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Service:
    """A worker to measure: its command, the bound of its queue, how many callers keep it busy, further settings."""

    name: str
    worker: Sequence[str]
    max_queued: int
    callers: int
    settings: Mapping[str, str] = field(default_factory=dict)


# The rate of the paced one depends little on what else uses the processor.
PACED = Service(
    "paced",
    ("tests.bench.instant_worker", "0.05"),
    max_queued=30,
    callers=24,
    settings={"MASKMILL_MAX_BATCH_IMAGES": "1"},
)
SERVICES = (
    PACED,
    Service("instant", ("tests.bench.instant_worker", "blobs"), max_queued=100, callers=48),
    Service("embedded", ("worker.main",), max_queued=10, callers=24),
)


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure each service with an overload of ten times `workload.seconds`."""
    for service in SERVICES:
        with tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder:
            print_progress(f"load: starting the stack, worker {service.name}")
            with open_stack(Path(folder), service) as stack:
                stack.start()
                figures = measure(stack, service, Path(folder), workload)
        yield Measurement("load", {"worker": service.name, "image": "x".join(map(str, SIZE))}, figures)


def open_stack(folder: Path, service: Service) -> Stack:
    """Return a stack whose callers are held for SYNC_WAIT_SECONDS."""
    environ = copy_environment()
    environ |= {
        "MASKMILL_MAX_SYNC_WAIT_SECONDS": str(SYNC_WAIT_SECONDS),
        "MASKMILL_MAX_QUEUED": str(service.max_queued),
        **service.settings,
    }
    stack = Stack(folder / "data", environ=environ)
    stack.worker.command[-1:] = service.worker
    return stack


def measure(stack: Stack, service: Service, folder: Path, workload: Workload) -> dict[str, Any]:
    """Return the figures of one service."""
    image = folder / "image.jpg"
    image.write_bytes(jpeg(astronaut().resize(SIZE, Image.Resampling.BICUBIC)))
    time_probes(stack, image)
    normal_ms = time_probes(stack, image)
    print_progress("load: capacity")
    capacity = measure_capacity(stack, image, service.callers, 2 * workload.seconds)
    rate, seconds = OVERLOAD * capacity, 10 * workload.seconds
    print_progress(f"load: {rate:.0f} requests a second for {seconds:.0f} s")
    completed = count_completed(stack)
    process = start_load(LoadTask(stack.port, str(image), KINDS, seconds, rate=rate))
    busy_share = sample_backlog(stack, seconds)
    completed_rate = (count_completed(stack) - completed) / seconds
    wait_for(RECOVERY_SECONDS)
    recovered_ms = time_probes(stack, image)
    report = read_report(process)
    wait_until(lambda: count_unfinished(stack) == 0, seconds=120)
    figures = summarize(report.answers) | count_ends(stack, report.answers)
    return {
        "capacity_per_second": round(capacity, 1),
        "offered_per_second": round(len(report.answers) / seconds, 1),
        "completed_per_second": round(completed_rate, 1),
        "completed_share_of_capacity": round(completed_rate / capacity, 2),
        "backlog_share_of_time": busy_share,
        **figures,
        "normal_ms": normal_ms,
        "recovered_ms": recovered_ms,
        "load_cores": round(report.cpu_seconds / report.seconds, 2),
    }


def measure_capacity(stack: Stack, image: Path, callers: int, seconds: float) -> float:
    """Return how many jobs a second are completed while callers in a closed loop keep the queues filled."""
    process = start_load(LoadTask(stack.port, str(image), CALLERS, seconds, callers=callers))
    wait_for(seconds / 3)
    start, before = time.monotonic(), count_completed(stack)
    wait_for(2 * seconds / 3 - 0.2)
    rate = (count_completed(stack) - before) / (time.monotonic() - start)
    read_report(process)
    return max(rate, 0.1)


def sample_backlog(stack: Stack, seconds: float) -> float:
    """Return the share of a time during which jobs were queued, so that the workers had work."""
    keys = [redis_keys.queued_jobs(queue_name(MODEL, priority)) for priority in Priority]
    samples, end = [], time.monotonic() + seconds
    with closing(redis.Redis.from_url(stack.valkey.url)) as client:
        while time.monotonic() < end:
            samples.append(any(client.zcard(key) for key in keys))
            wait_for(SAMPLE_INTERVAL_SECONDS)
    return round(sum(samples) / len(samples), 2)


def summarize(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the numbers of accepted, refused and failed requests, and how long they took."""
    refused = [one for one in answers if one.status == 429]
    accepted = [one for one in answers if one.status in (200, 202)]
    others = Counter(f"{one.status} {one.code}".strip() for one in answers if one.status not in (200, 202, 429))
    return {
        "accepted": dict(Counter(one.kind for one in accepted)),
        "refused": dict(Counter(one.code for one in refused)),
        "failed": dict(others),
        **percentiles("refused", [one.ms for one in refused]),
        **percentiles("sync", [one.ms for one in accepted if one.kind == "sync"]),
        **percentiles("submission", [one.ms for one in accepted if one.kind == "job"]),
        **percentiles("load_lag", [one.lag_ms for one in answers]),
    }


def percentiles(name: str, times_ms: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds; nothing if there are no values."""
    ordered = sorted(times_ms)
    if not ordered:
        return {}
    return {
        f"{name}_median_ms": round(ordered[len(ordered) // 2], 1),
        f"{name}_p99_ms": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1),
    }


def count_ends(stack: Stack, answers: Sequence[Answer]) -> dict[str, Mapping[str, int]]:
    """Return the states of the jobs that were accepted."""
    with closing(redis.Redis.from_url(stack.valkey.url, decode_responses=True)) as client:
        states = (client.hget(redis_keys.job(one.job_id), "state") for one in answers if one.status == 202)
        return {"job_states": dict(Counter(map(str, states)))}


def start_load(task: LoadTask) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.bench.open_loop", json.dumps(asdict(task))]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def read_report(process: "subprocess.Popen[str]") -> LoadReport:
    """Wait for a load process, and return its report."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load process exited with {process.returncode}")
    wire = json.loads(output)
    return LoadReport(**{**wire, "answers": [Answer(**one) for one in wire["answers"]]})


def time_probes(stack: Stack, image: Path) -> float:
    """Return the median of some synchronous calls, one after the other, in milliseconds."""
    content = image.read_bytes()
    with closing(Client(stack.port)) as client:
        times_ms = [time_call_ms(lambda: client.segment(content)) for _ in range(PROBES)]
    return round(statistics.median(times_ms), 1)


def wait_for(seconds: float) -> None:
    time.sleep(seconds)


def count_completed(stack: Stack) -> int:
    with closing(redis.Redis.from_url(stack.valkey.url)) as client:
        return int(client.hget(redis_keys.COMPLETED, MODEL) or 0)


def count_unfinished(stack: Stack) -> int:
    with closing(redis.Redis.from_url(stack.valkey.url)) as client:
        queues = (queue_name(MODEL, priority) for priority in Priority)
        return sum(int(client.zcard(redis_keys.unfinished_jobs(queue, "public"))) for queue in queues)
