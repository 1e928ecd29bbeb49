"""The processes of a host that decode: the template, and the decoders that it forks.  No images here."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from shared.environment import COMPUTATION, PYTHON, SYSTEM, select_variables
from shared.errors import DecodersBusy
from worker.decoding.messages import Reader, send
from worker.decoding.template import ANSWER, COMMAND, FORK, NO_PROCESS, NOT_A_CHILD, STATUS
from worker.slabs import SlabPool

log = structlog.get_logger()
_ROOT = Path(__file__).parents[2]
_IO_TIMEOUT_SECONDS = 30.0  # a decoder reads and writes messages at once, however busy it is before and after
_STOP_TIMEOUT_SECONDS = 5.0
# Of glibc.  Otherwise a decoder returns the memory of each small image to the system and gets it back page by page for
# the next: 730 page faults and 1 ms of CPU time for 640x480.  Large images are mapped, and returned at once.
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "8388608", "MALLOC_TRIM_THRESHOLD_": "67108864"}


def build_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the processes that read files of strangers: without settings and credentials."""
    return select_variables(environ, SYSTEM | PYTHON, COMPUTATION) | _ALLOCATOR


class DecoderProcess:
    """A decoder as its host sees it; used by one thread at a time."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        connection.settimeout(_IO_TIMEOUT_SECONDS)
        self.pid = pid
        self.is_worn = False  # not to be used for another image
        self.is_busy = False  # it has a question that it has not answered
        self._connection = connection
        self._reader = Reader(connection)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    @property
    def has_ended(self) -> bool:
        """Whether an idle decoder has ended; it sends nothing unasked."""
        return bool(self._poll.poll(0))

    def send(self, message: dict[str, Any], data: bytes = b"") -> None:
        """Send a message.

        Raises:
            OSError: the process has ended.
        """
        self.is_busy = True
        send(self._connection, message, data)

    def wait(self, seconds: float) -> bool:
        """Return whether an answer, or the end of the process, came within this time."""
        return bool(self._poll.poll(max(0.0, 1000 * seconds)))

    def receive(self) -> dict[str, Any] | None:
        """Return the answer that wait() found; None if the process has ended.

        Raises:
            OSError: the process has ended.
        """
        received = self._reader.receive()
        if received is None:
            return None
        self.is_busy = False
        return received[0]

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process so far; where the system does not tell, the time of a clock."""
        if sys.platform != "linux":
            return time.monotonic()
        with contextlib.suppress(OSError):
            return time.clock_gettime(~self.pid << 3 | 2)  # as in MAKE_PROCESS_CPUCLOCK of the kernel
        return 0.0

    def lower_priority(self, niceness: int) -> None:
        """Lower the CPU priority of the process, which is not used for another image."""
        self.is_worn = True
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self.pid, niceness)

    def close(self) -> None:
        """Close the connection, which ends an idle decoder."""
        self._reader.close()
        self._connection.close()


class TemplateProcess:
    """Starts the template, and starts it again when it has died.  Thread-safe."""

    def __init__(self, pool: SlabPool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._is_stopped = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        with self._lock:
            self._start()

    def stop(self) -> None:
        """End the template and every decoder."""
        with self._lock:
            self._is_stopped = True
            self._end()

    def fork(self) -> DecoderProcess:
        """Return a new decoder.

        Raises:
            DecodersBusy: no process could be started, or stop() was called.
        """
        pid: int | None = None
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            ours, theirs = socket.socketpair()
            stack.callback(ours.close)
            with theirs:
                pid = self._command(FORK, 0, theirs)
            if pid is not None and pid != NO_PROCESS:
                stack.pop_all()
                return DecoderProcess(ours, pid)
        raise DecodersBusy("The worker could start no process to decode the image")

    def find_status(self, pid: int) -> int | None:
        """Return the wait status of a decoder, which is killed unless it has ended; None if it is unknown."""
        with contextlib.suppress(OSError):
            return self._find_status(pid)
        return None

    def _find_status(self, pid: int) -> int | None:
        status = self._command(STATUS, pid)
        return None if status == NOT_A_CHILD else status

    def _command(self, kind: bytes, pid: int, attached: socket.socket | None = None) -> int | None:
        """Send a command and return the answer; a template that has died is replaced first."""
        with self._lock:
            for _ in range(2):
                if self._is_stopped:
                    return None
                if self._connection is None:
                    self._start()
                with contextlib.suppress(OSError):
                    answer = self._exchange(COMMAND.pack(kind, pid), attached)
                    if answer is not None:
                        return answer
                log.warning("decoder_template_lost", pid=self.pid)
                self._end()
                if kind == STATUS:
                    return None
        return None

    def _exchange(self, command: bytes, attached: socket.socket | None) -> int | None:
        assert self._connection is not None
        socket.send_fds(self._connection, [command], [attached.fileno()] if attached else [])
        answer = self._connection.recv(ANSWER.size)
        return int(ANSWER.unpack(answer)[0]) if len(answer) == ANSWER.size else None

    def _start(self) -> None:
        """Start the template.

        Raises:
            OSError: the system has no process for it now.
        """
        ours, theirs = socket.socketpair()
        ours.settimeout(_IO_TIMEOUT_SECONDS)
        arguments = [str(number) for number in (theirs.fileno(), self._pool.fd, self._pool.size_bytes)]
        with contextlib.ExitStack() as stack, theirs:
            stack.callback(ours.close)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker.decoding.template", *arguments],
                pass_fds=[theirs.fileno(), self._pool.fd],
                stdin=subprocess.DEVNULL,
                cwd=_ROOT,
                env=build_environment(os.environ),
            )
            stack.pop_all()
        self._connection = ours

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            try:
                self._process.wait(_STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def describe_status(status: int | None) -> str:
    """Return how a process ended, for the log."""
    if status is None:
        return "unknown"
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
