"""Processes that load the gateway, so that no interpreter lock of one process bounds the rate of the requests."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Self

from tests.bench.gpu_service.load_process import LoadResult, LoadTask
from tests.bench.measurement import ROOT

MAX_PROCESSES = 4
COMMAND = (sys.executable, "-m", "tests.bench.gpu_service.load_process")


@dataclass(frozen=True, slots=True)
class Load:
    """Running processes; each runs a task of its own."""

    processes: tuple["subprocess.Popen[str]", ...]

    @classmethod
    def start(cls, task: LoadTask) -> Self:
        """Divide the threads of a task among at most MAX_PROCESSES processes, and start them."""
        count = min(MAX_PROCESSES, task.threads)
        shares = [len(range(number, task.threads, count)) for number in range(count)]
        return cls(tuple(_start_process(replace(task, threads=share)) for share in shares))

    def check(self) -> None:
        """Raise an error if a process has failed.

        Raises:
            RuntimeError: with the last line that it wrote.
        """
        for process in self.processes:
            if process.poll():
                raise RuntimeError(f"a load process failed: {_last_line(process)}")

    def stop(self) -> LoadResult:
        """Let every request under way end, and return what was measured."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None  # communicate() would flush it
        return self.wait()

    def wait(self) -> LoadResult:
        """Wait until the tasks have ended by themselves, and return what was measured.

        Raises:
            RuntimeError: a process failed.
        """
        results = [_wait_for_result(process) for process in self.processes]
        return LoadResult(
            [elapsed_ms for result in results for elapsed_ms in result.times_ms],
            max(result.seconds for result in results),
        )

    def kill(self) -> None:
        """End all processes at once."""
        for process in self.processes:
            process.kill()
            process.communicate()


@contextmanager
def open_load(task: LoadTask) -> Iterator[Load]:
    """Start processes that do not outlive the block."""
    load = Load.start(task)
    try:
        yield load
    finally:
        load.kill()


def run_load(task: LoadTask) -> LoadResult:
    """Run a task that ends by itself."""
    with open_load(task) as load:
        # An open stdin: its end would stop the task.
        return load.wait()


def _start_process(task: LoadTask) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, json.dumps(asdict(task))],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_result(process: "subprocess.Popen[str]") -> LoadResult:
    assert process.stdout is not None
    output = process.stdout.read()
    if process.wait():
        raise RuntimeError(f"a load process failed: {_last_line(process)}")
    return LoadResult(**json.loads(output))


def _last_line(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return next(reversed(process.stderr.read().splitlines()), "it wrote nothing")
