"""CPU time of processes and their descendants, from /proc (Linux only)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Stat:
    """A process's parent and the CPU time that it and its children that ended have used."""

    parent: int
    cpu_seconds: float


def read_cpu_seconds(pids: Iterable[int], *, without: Iterable[int] = ()) -> float:
    """Return the CPU time that processes and their descendants have used so far.

    Args:
        without: processes that do not count, nor do their descendants.
    """
    stats = {int(folder.name): _read_stat(folder) for folder in Path("/proc").iterdir() if folder.name.isdigit()}
    excluded = set(without)
    counted = set(pids) - excluded
    while children := {pid for pid, stat in stats.items() if stat.parent in counted} - counted - excluded:
        counted |= children
    return sum(stats[pid].cpu_seconds for pid in counted if pid in stats)


def _read_stat(folder: Path) -> _Stat:
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # the process has ended
        return _Stat(0, 0.0)
    return _Stat(int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK"))
