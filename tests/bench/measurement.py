"""The parts that all benchmarks share: the workload, one measurement, timing loops and latency statistics."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Workload:
    """How much to measure.

    seconds: duration of each series of calls.
    min_calls: calls of each series, also when they take longer than `seconds`.
    burst_jobs: jobs published at once; a quarter of them where objects go to the bucket as well.
    images: images that the engine segments, at most four.
    postprocess_sizes: (width, height) of the images that are post-processed.
    clients: numbers of concurrent clients of the gateway.
    host_sizes: (width, height) of the images that the host side decodes and renders.
    peer_clients: numbers of concurrent clients in the comparison with other servers.
    """

    seconds: float = 6.0
    min_calls: int = 3
    burst_jobs: int = 400
    images: int = 4
    postprocess_sizes: tuple[tuple[int, int], ...] = ((640, 480), (1920, 1080))
    clients: tuple[int, ...] = (1, 8)
    host_sizes: tuple[tuple[int, int], ...] = ((640, 480), (4000, 3000))
    peer_clients: tuple[int, ...] = (1, 8, 32)


DEFAULT_WORKLOAD = Workload()
TINY_WORKLOAD = Workload(
    seconds=0.1,
    min_calls=1,
    burst_jobs=8,
    images=1,
    postprocess_sizes=((64, 48),),
    clients=(2,),
    host_sizes=((64, 48),),
    peer_clients=(2,),
)
LARGE_SIZE = (4000, 3000)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the output: the figures of one benchmark under one set of settings."""

    bench: str
    settings: Mapping[str, Any]
    figures: Mapping[str, Any]
    device: str = "cpu"

    def to_json(self) -> str:
        return json.dumps(asdict(self) | describe_environment())


def read_cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its threads so far; 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    # The 14th and the 15th field of the line: user and system time.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def describe_environment() -> dict[str, str]:
    """Return processor, versions and commit.  The host's name is not included."""
    return {
        "machine": f"{platform.machine()}, {_processor_name()}, {len(os.sched_getaffinity(0))} cores",
        "python": platform.python_version(),
        "torch": version("torch"),
        "commit": _commit(),
    }


def device_name(device: str) -> str:
    """Return the name of the GPU behind a torch device, or `cpu`."""
    if not device.startswith("cuda"):
        return device
    import torch

    return str(torch.cuda.get_device_name(device))


def print_progress(text: str) -> None:
    """Print to stderr; stdout has the measurements only."""
    print(text, file=sys.stderr, flush=True)


def time_call_ms(call: Callable[[], object]) -> float:
    """Return the duration of one call in milliseconds."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def time_interleaved(calls: Mapping[str, Callable[[], object]], workload: Workload) -> dict[str, list[float]]:
    """Time each call once per round, so that other load on the machine affects all of them equally.

    Every second round runs in reverse order.  The caller warms the calls up first.

    Returns:
        milliseconds of each round, by the name of the call.
    """
    names = list(calls)
    times_ms: dict[str, list[float]] = {name: [] for name in names}
    deadline = time.monotonic() + workload.seconds * len(names)
    while len(times_ms[names[0]]) < workload.min_calls or time.monotonic() < deadline:
        for name in names:
            times_ms[name].append(time_call_ms(calls[name]))
        names.reverse()
    return times_ms


def time_sequential(call: Callable[[], object], workload: Workload) -> list[float]:
    """Return the milliseconds of consecutive calls.  The caller warms the call up first."""
    return time_interleaved({"": call}, workload)[""]


def time_concurrent(clients: int, call: Callable[[int], object], workload: Workload) -> tuple[list[float], float]:
    """Call from `clients` threads at once, each in a closed loop.

    Args:
        call: takes the number of the client in [0, clients).

    Returns:
        the milliseconds of every call, and completed calls per second.
    """
    deadline = time.monotonic() + workload.seconds

    def run_client(number: int) -> list[float]:
        times_ms = [time_call_ms(lambda: call(number)) for _ in range(workload.min_calls)]
        while time.monotonic() < deadline:
            times_ms.append(time_call_ms(lambda: call(number)))
        return times_ms

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        times_ms = [one for client_times in threads.map(run_client, range(clients)) for one in client_times]
    return times_ms, len(times_ms) / (time.perf_counter() - start)


def latency_summary(times_ms: Sequence[float]) -> dict[str, float]:
    """Return median and 95th percentile in milliseconds."""
    ordered = sorted(times_ms)
    return {
        "median_ms": round(statistics.median(ordered), 1),
        "p95_ms": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 1),
    }


def stage_medians(jobs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the median milliseconds of each stage, from the `timings_ms` that the worker recorded for each job."""
    stages: dict[str, list[float]] = defaultdict(list)
    for timings_ms in jobs:
        for stage, elapsed_ms in timings_ms.items():
            stages[stage].append(elapsed_ms)
    return {stage: round(statistics.median(times_ms), 1) for stage, times_ms in stages.items()}


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    """Return the commit that is checked out, with the suffix `-dirty` if files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
