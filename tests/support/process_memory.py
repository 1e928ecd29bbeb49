"""Memory of a process and its descendants, from /proc (Linux only)."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.periodic import run_periodically


@dataclass
class MemoryPeak:
    """The largest sum seen so far, in bytes."""

    nbytes: int = 0


@contextmanager
def watch_memory(pid: int, *, interval_seconds: float = 0.1) -> Iterator[MemoryPeak]:
    """Sample the memory of a process and its descendants while the block runs."""
    peak = MemoryPeak()

    def sample() -> None:
        peak.nbytes = max(peak.nbytes, read_memory(pid))

    with run_periodically(sample, interval_seconds=interval_seconds):
        yield peak


def read_memory(pid: int) -> int:
    """Return the bytes of a process and its descendants; memory that they share counts once."""
    return sum(_read_proportional_bytes(one) for one in list_descendants(pid))


def list_descendants(pid: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    pids = [pid]
    for parent in pids:  # the list grows while it is read
        # A child is listed by the thread that started it.
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                pids += map(int, children.read_text().split())
    return pids


def _read_proportional_bytes(pid: int) -> int:
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0
