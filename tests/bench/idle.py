"""What the service costs while it has nothing to do: the CPU time of each process, in per cent of a core.

The stack has run jobs before, so every thread and every connection that a job needs exists.  Valkey and the object
store stand for any others and are reported apart.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from deploy.local.sample_job import SAMPLE_IMAGE, run_sample
from deploy.local.stack import Stack
from tests.bench.measurement import Measurement, Workload, print_progress, read_cpu_seconds
from tests.support.environment import copy_environment

# By default a minute, which has some runs of each duty of the steward but the rarest.
SERIES = 10
# A decoder without work ends after 30 s.
SETTLING_SERIES = 6
PARTS = {
    "api.wsgi": "gateway",
    "worker.main": "engine",
    "worker.host": "host",
    "worker.renderer": "renderer",
    "worker.steward": "steward",
}
DECODER = "decoder"
SERVERS = ("valkey", "object store")


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure a stack of its own, which runs some jobs first."""
    seconds = SERIES * workload.seconds
    with (
        tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder,
        Stack(Path(folder), environ=copy_environment()) as stack,
    ):
        print_progress("idle: starting the stack")
        stack.start()
        run_sample(stack.client)
        stack.client.post("/v1/jobs", SAMPLE_IMAGE.read_bytes())
        time.sleep(SETTLING_SERIES * workload.seconds)
        print_progress(f"idle: measuring for {seconds:g} s")
        yield Measurement("idle", {"seconds": seconds}, measure_idle(stack, seconds))


def measure_idle(stack: Stack, seconds: float) -> Mapping[str, float]:
    """Return the CPU time of each part of the service, and of all but the servers as `together`, in % of a core."""
    parts = find_processes(stack)
    before = {pid: read_cpu_seconds(pid) for pid in parts}
    started = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - started
    used = dict.fromkeys(("gateway", "engine", "host", DECODER, "renderer", "steward", *SERVERS), 0.0)
    for pid, part in parts.items():
        # 0 if it has ended.
        used[part] += 100 * max(0.0, read_cpu_seconds(pid) - before[pid]) / elapsed
    together = sum(percent for part, percent in used.items() if part not in SERVERS)
    return {part: round(percent, 2) for part, percent in {**used, "together": together}.items()}


def find_processes(stack: Stack) -> Mapping[int, str]:
    """Return the part of the service that each of its processes belongs to, by process id."""
    parts = dict.fromkeys(list_tree(stack.valkey.pid), "valkey") | dict.fromkeys(
        list_tree(stack.objects.pid), "object store"
    )
    for process in (stack.gateway, stack.worker, stack.renderer, stack.steward):
        parts |= {pid: name_part(pid) for pid in list_tree(process.pid)}
    return parts


def list_tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    with suppress(OSError):  # a process has ended
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [one for child in children.read_text().split() for one in list_tree(int(child))]
    return found


def name_part(pid: int) -> str:
    """Return the part by the module in the command line; decoders are forked from a process of their own module."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
        return next((part for module, part in PARTS.items() if module in words), DECODER)
    return DECODER
