"""Child processes of the one-machine stack: start with a log file, wait for readiness, terminate.

A child dies with this process (die_with_parent.py).  What it writes is readable by its user alone.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

_DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
_POLL_INTERVAL_SECONDS = 0.05
_TAIL_BYTES = 16 * 1024
_PRIVATE_UMASK = 0o077


class NotReady(Exception):
    """A process ended, or was not ready in time; the text is one line and names the log file."""


class Process:
    """A program that runs as a child process, in a session of its own so that Ctrl-C reaches only the parent.

    Start it from a thread that lives as long as the child should: Linux sends the parent-death signal when the thread
    that started the child ends (prctl(2), PR_SET_PDEATHSIG).
    """

    grace_seconds = 10.0

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        niceness: int = 0,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.env = dict(os.environ if env is None else env)
        self.niceness = niceness
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the program; its output is appended to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        launcher = [sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(os.getpid()), str(self.niceness)]
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
            self._child = subprocess.Popen(
                launcher + self.command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=_PRIVATE_UMASK,
            )
        return self

    def is_ready(self) -> bool:
        """Return whether the program can serve; a subclass overrides this with a health check."""
        return self.is_alive

    @property
    def is_alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the last start, also after the program has ended."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code (negative: the signal that killed the program), or None while it runs."""
        return self._popen.poll()

    def wait_ready(self, deadline_seconds: float = 30.0) -> Self:
        """Wait until the program is ready.

        Raises:
            NotReady: it ended, or the deadline passed.
        """
        deadline = time.monotonic() + deadline_seconds
        while not self.is_ready():
            self.check_alive()
            if time.monotonic() > deadline:
                raise NotReady(f"{self.name} was not ready in {deadline_seconds:.0f} s; see {self.log}")
            time.sleep(_POLL_INTERVAL_SECONDS)
        return self

    def check_alive(self) -> None:
        """Raise an error if the program has ended.

        Raises:
            NotReady: it has ended; the text holds the last line of its log.
        """
        if not self.is_alive:
            last_line = _log_message(next(reversed(self.tail(1)), "its log is empty"))
            raise NotReady(f"{self.name} ended with exit code {self.exit_code} ({last_line}); see {self.log}")

    def terminate(self) -> None:
        """Send SIGTERM; the program may finish its current work."""
        if self.is_alive:
            self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the program and its children, and wait for the program."""
        if self._child is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def stop(self, grace_seconds: float | None = None) -> None:
        """Terminate the program, and kill it after the grace period (default: `self.grace_seconds`)."""
        stop_all([self], grace_seconds=self.grace_seconds if grace_seconds is None else grace_seconds)

    def tail(self, lines: int = 10) -> list[str]:
        """Return the last lines of the log, from at most its last 16 KiB."""
        with self.log.open("rb") as log:
            _seek_to_tail(log, _TAIL_BYTES)
            return log.read().decode(errors="replace").splitlines()[-lines:]

    def __enter__(self) -> Self:
        return self if self.is_alive else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _popen(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._child


def stop_all(processes: Sequence[Process], *, grace_seconds: float) -> None:
    """Send SIGTERM to all processes, and SIGKILL to those that still run after the grace period."""
    deadline = time.monotonic() + grace_seconds
    for process in processes:
        process.terminate()
    while time.monotonic() < deadline and any(process.is_alive for process in processes):
        time.sleep(_POLL_INTERVAL_SECONDS)
    for process in processes:
        process.kill()


def _log_message(line: str) -> str:
    """Return the event of a JSON log line, or the line itself if it is not one."""
    try:
        return str(json.loads(line)["event"])
    except (ValueError, KeyError, TypeError):
        return line


def _seek_to_tail(file: IO[bytes], max_bytes: int) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - max_bytes))
