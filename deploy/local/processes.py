"""Child processes of the one-machine stack: started on a leash, logged to a file, asked if they are ready, ended."""

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

_LEASH = Path(__file__).with_name("die_with_parent.py")
_POLL_SECONDS = 0.05
_TAIL_BYTES = 16 * 1024


class NotReady(Exception):
    """A process ended, or was not ready in time; the text is one line and says where its log is."""


class Process:
    """A program that runs as a child, in a session of its own so that Ctrl-C reaches only us.

    Start it from a thread that lives as long as the child should: the leash is tied to that thread.
    """

    grace_seconds = 10.0

    def __init__(self, name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.env = dict(os.environ if env is None else env)
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the program, adding to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                leash + self.command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def is_ready(self) -> bool:
        """Tell whether the program does its work; a subclass knows how to ask."""
        return self.is_alive

    @property
    def is_alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process id; it stays that of the last start after the program has ended."""
        return self._started.pid

    @property
    def exit_code(self) -> int | None:
        """How the program ended (negative: by that signal), or None while it runs."""
        return self._started.poll()

    def wait_ready(self, deadline_seconds: float = 30.0) -> Self:
        """Wait until the program is ready.

        Raises:
            NotReady: it ended, or the deadline passed.
        """
        deadline = time.monotonic() + deadline_seconds
        while not self.is_ready():
            self.insist_alive()
            if time.monotonic() > deadline:
                raise NotReady(f"{self.name} was not ready in {deadline_seconds:.0f} s; see {self.log}")
            time.sleep(_POLL_SECONDS)
        return self

    def insist_alive(self) -> None:
        """Do nothing while the program runs.

        Raises:
            NotReady: it has ended.
        """
        if not self.is_alive:
            last_words = _plain(next(reversed(self.tail(1)), "its log is empty"))
            raise NotReady(f"{self.name} ended with exit code {self.exit_code} ({last_words}); see {self.log}")

    def terminate(self) -> None:
        """Ask the program to end; it may finish what it does."""
        if self.is_alive:
            self._started.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the program and whatever it started, at once."""
        if self._child is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def stop(self, grace_seconds: float | None = None) -> None:
        """Ask the program to end, and end it by force once its grace is over."""
        stop_all([self], grace_seconds=self.grace_seconds if grace_seconds is None else grace_seconds)

    def tail(self, lines: int = 10) -> list[str]:
        """Return the last lines of the log."""
        with self.log.open("rb") as log:
            _seek_back(log, _TAIL_BYTES)
            return log.read().decode(errors="replace").splitlines()[-lines:]

    def __enter__(self) -> Self:
        return self if self.is_alive else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._child


def stop_all(processes: Sequence[Process], *, grace_seconds: float) -> None:
    """Ask all of them to end at once, and end by force those that are left when the grace is over."""
    deadline = time.monotonic() + grace_seconds
    for process in processes:
        process.terminate()
    while time.monotonic() < deadline and any(process.is_alive for process in processes):
        time.sleep(_POLL_SECONDS)
    for process in processes:
        process.kill()


def _plain(line: str) -> str:
    """Return what a log line says, without the rest of what it knows if it is one of JSON."""
    try:
        return str(json.loads(line)["event"])
    except (ValueError, KeyError, TypeError):
        return line


def _seek_back(file: IO[bytes], most_bytes: int) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - most_bytes))
