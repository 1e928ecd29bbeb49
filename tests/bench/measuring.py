"""What every benchmark shares: how much to measure, what one measurement is, and how times become figures."""

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
class Effort:
    """How much to measure.

    seconds: for each series of single calls; `least` of them are made in any case.
    burst: jobs that are published at once; of those with objects in the bucket, a quarter of it.
    photos: that the engine segments, up to four.
    sizes: (width, height) of the images that are post-processed.
    photo_sizes: (width, height) of the photos that the host side works on.
    crowds: how many clients at once load this service beside its peers.
    """

    seconds: float = 6.0
    least: int = 3
    burst: int = 400
    photos: int = 4
    sizes: tuple[tuple[int, int], ...] = ((640, 480), (1920, 1080))
    clients: tuple[int, ...] = (1, 8)
    photo_sizes: tuple[tuple[int, int], ...] = ((640, 480), (4000, 3000))
    crowds: tuple[int, ...] = (1, 8, 32)


MODEST = Effort()
TINY = Effort(
    seconds=0.1,
    least=1,
    burst=8,
    photos=1,
    sizes=((64, 48),),
    clients=(2,),
    photo_sizes=((64, 48),),
    crowds=(2,),
)
LARGE_SIZE = (4000, 3000)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the output: under which settings which figures came out."""

    bench: str
    settings: Mapping[str, Any]
    figures: Mapping[str, Any]
    device: str = "cpu"

    def to_json(self) -> str:
        return json.dumps(asdict(self) | surroundings())


def surroundings() -> dict[str, str]:
    """Say where this was measured, in words that name no host."""
    return {
        "machine": f"{platform.machine()}, {_processor()}, {len(os.sched_getaffinity(0))} cores",
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


def progress(text: str) -> None:
    """Tell somebody who waits; the figures alone go to stdout."""
    print(text, file=sys.stderr, flush=True)


def timed(call: Callable[[], object]) -> float:
    """Return how many milliseconds a call takes."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def in_turn(calls: Mapping[str, Callable[[], object]], effort: Effort) -> dict[str, list[float]]:
    """Time each call once a round, so that whatever else the machine does falls on all of them alike.

    Every other round goes backwards.  Warm up before.

    Returns:
        milliseconds of each round, by the name of the call.
    """
    names = list(calls)
    taken: dict[str, list[float]] = {name: [] for name in names}
    deadline = time.monotonic() + effort.seconds * len(names)
    while len(taken[names[0]]) < effort.least or time.monotonic() < deadline:
        for name in names:
            taken[name].append(timed(calls[name]))
        names.reverse()
    return taken


def one_by_one(call: Callable[[], object], effort: Effort) -> list[float]:
    """Return the milliseconds of one call after the other.  Warm up before."""
    return in_turn({"": call}, effort)[""]


def at_once(clients: int, call: Callable[[int], object], effort: Effort) -> tuple[list[float], float]:
    """Let clients call at the same time, each again and again; `call` is told which client it is.

    Returns:
        the milliseconds of every call, and how many calls were done a second.
    """
    deadline = time.monotonic() + effort.seconds

    def keep_calling(number: int) -> list[float]:
        taken = [timed(lambda: call(number)) for _ in range(effort.least)]
        while time.monotonic() < deadline:
            taken.append(timed(lambda: call(number)))
        return taken

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        milliseconds = [one for taken in threads.map(keep_calling, range(clients)) for one in taken]
    return milliseconds, len(milliseconds) / (time.perf_counter() - start)


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return median and 95th percentile."""
    ordered = sorted(milliseconds)
    return {
        "median_ms": round(statistics.median(ordered), 1),
        "p95_ms": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 1),
    }


def median_stages(jobs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the median milliseconds of each stage, from what the worker noted with each job."""
    stages: dict[str, list[float]] = defaultdict(list)
    for timings_ms in jobs:
        for stage, elapsed_ms in timings_ms.items():
            stages[stage].append(elapsed_ms)
    return {stage: round(statistics.median(elapsed), 1) for stage, elapsed in stages.items()}


def _processor() -> str:
    try:
        facts = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.partition(":")[2].strip() for line in facts if line.startswith("model name")), "unknown")


def _commit() -> str:
    """Return the commit that is checked out, with `-dirty` behind it if files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
