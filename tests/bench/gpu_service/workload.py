"""What to measure, and the command line that says so."""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.engine import LENIENT

MAX_OVERTIME_SECONDS = 15.0
# A worker that has less for compiling its batch sizes and for the series would be killed before it is ready.
MIN_COMPILE_SECONDS = 120.0
FORMATS = ("labels", "labels,masks")
PARAMETERS = f"threshold={LENIENT.threshold}&overlap_mask_area_threshold={LENIENT.overlap_mask_area_threshold}"


@dataclass(frozen=True, slots=True)
class ServiceWorkload:
    """What to measure on which device.

    hosts: numbers of host processes, each of which needs a start of the worker; the most important first.
    clients: numbers of concurrent synchronous callers.
    is_compiled: whether to measure a compiled model too, if time is left.
    max_batch: images in a batch at most.
    warm_up_jobs: before each series; the second half tells the rate.
    seconds: duration of a burst once all its jobs are queued, and of each series of synchronous calls.
    start_seconds: for a worker to load its model; compiling it may take all the time that is left.
    deadline: on the clock of time.monotonic(); a measurement not begun by then is reported as left out.
    out: folder for the lines and the logs, or None.
    """

    device: str
    is_tiny: bool
    hosts: tuple[int, ...]
    clients: tuple[int, ...]
    is_compiled: bool
    max_batch: int
    warm_up_jobs: int
    seconds: float
    start_seconds: float
    deadline: float
    out: Path | None

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.deadline

    @property
    def has_time_to_compile(self) -> bool:
        return time.monotonic() < self.deadline - MIN_COMPILE_SECONDS

    def count_start_seconds(self, variant: "Variant") -> float:
        """Return how long a worker may take until it is ready: not long beyond the deadline, compiling or not."""
        left = max(1.0, self.deadline + MAX_OVERTIME_SECONDS - time.monotonic())
        return left if variant.is_compiled else min(left, self.start_seconds)

    @property
    def dtype(self) -> str:
        return "float32" if self.device.startswith("cpu") else "bfloat16"


@dataclass(frozen=True, slots=True)
class Variant:
    """Settings of one start of the worker."""

    hosts: int
    is_compiled: bool = False

    def environ(self, workload: ServiceWorkload) -> dict[str, str]:
        """Return the worker's environment variables."""
        return {
            "MASKMILL_DEVICE": workload.device,
            "MASKMILL_FORWARD": "fast",
            "MASKMILL_DTYPE": workload.dtype,
            "MASKMILL_COMPILE": "on" if self.is_compiled else "off",
            "MASKMILL_MAX_BATCH_IMAGES": str(workload.max_batch),
            "MASKMILL_HOST_PROCESSES": str(self.hosts),
        }

    def settings(self, workload: ServiceWorkload) -> dict[str, object]:
        """Return what a measurement says of its worker."""
        return {
            "model": "swin-toy" if workload.is_tiny else "swin-large",
            "forward": f"fast, {workload.dtype}{', compiled' if self.is_compiled else ''}",
            "max batch": workload.max_batch,
            "hosts": self.hosts,
        }


def parse_workload(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> ServiceWorkload:
    chosen = build_parser(environ).parse_args(arguments)
    return ServiceWorkload(
        device=chosen.device,
        is_tiny=chosen.tiny,
        hosts=tuple(chosen.hosts or ((1, 2) if chosen.tiny else (8, 4, 2, 1))),
        clients=(2,) if chosen.tiny else (1, 8, 32),
        is_compiled=not (chosen.tiny or chosen.no_compiled),
        max_batch=4 if chosen.tiny else chosen.max_batch,
        warm_up_jobs=8 if chosen.tiny else 16 * chosen.max_batch,
        seconds=0.5 if chosen.tiny else chosen.seconds,
        start_seconds=chosen.start_seconds,
        deadline=time.monotonic() + 60 * chosen.minutes,
        out=chosen.out,
    )


def build_parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.gpu_service", description="Measure the whole service on a machine with a GPU."
    )
    out = Path(environ["OUT"]) if environ.get("OUT") else None
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tiny", action="store_true", help="smoke test; the figures mean nothing")
    parser.add_argument("--minutes", type=float, default=7.5, help="begin no measurement after this time")
    parser.add_argument("--hosts", type=int, nargs="+", help="numbers of host processes (default: 8 4 2 1)")
    parser.add_argument("--max-batch", type=int, default=16, help="images in a batch at most")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each series")
    parser.add_argument("--start-seconds", type=float, default=150.0, help="for a worker to load its model")
    parser.add_argument("--no-compiled", action="store_true", help="do not measure a compiled model at the end")
    parser.add_argument("--out", type=Path, default=out, help="folder for the lines and the logs (default: $OUT)")
    return parser
