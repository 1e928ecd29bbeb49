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


def find_descendants(ancestor: int, word: str) -> list[int]:
    """Return the descendants of a process that have this word as an argument of their command line."""
    parents = {
        int(folder.name): _read_stat(folder).parent for folder in Path("/proc").iterdir() if folder.name.isdigit()
    }
    found = {ancestor}
    while children := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= children
    return sorted(pid for pid in found - {ancestor} if word in _read_command(pid))


def _read_command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:  # the process has ended
        return []


def _read_stat(folder: Path) -> _Stat:
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # the process has ended
        return _Stat(0, 0.0)
    return _Stat(int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK"))
