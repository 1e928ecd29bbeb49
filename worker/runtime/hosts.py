"""The host processes of a worker: started, served, watched, restarted with backoff, and drained.

A host inherits one end of a channel and a pool of shared memory; the kernel frees both when the last process that has
them ends, however it ends.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass

import structlog

from worker.batching.channel import Channel, open_channel
from worker.batching.local import LocalBatches
from worker.batching.messages import JobCompleted, JobDropped, Message, ModelLoaded, ReadinessChanged
from worker.batching.remote import JobObserver
from worker.batching.service import HostConnection
from worker.slabs import SlabPool

log = structlog.get_logger()

INITIAL_BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 10.0
# An exit after this long starts a new count of consecutive exits.
MIN_HEALTHY_SECONDS = 30.0
MAX_CONSECUTIVE_EXITS = 6
# For a host that has been killed, or whose channel has closed because it ends.
EXIT_SECONDS = 5.0
# Of the Hub, tokens among them: only the engine downloads models.
_OF_ENGINE = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")


@dataclass(frozen=True, slots=True)
class HostProcess:
    """A running host, and this process's ends of what it inherited."""

    number: int
    process: subprocess.Popen[bytes]
    channel: Channel
    pool: SlabPool

    @classmethod
    def start(cls, number: int, command: Sequence[str], pool_bytes: int) -> "HostProcess":
        """Start `command` with the descriptors of a channel and a pool appended to its arguments.

        Raises:
            OSError: the system has no process or no memory for it now.
        """
        channel, theirs = open_channel()
        with ExitStack() as stack, theirs:
            stack.callback(channel.close)
            pool = SlabPool.create(pool_bytes)
            stack.callback(pool.close)
            arguments = [str(number), str(theirs.fileno()), str(pool.fd), str(pool.size_bytes)]
            environment = build_environment(os.environ)
            process = subprocess.Popen([*command, *arguments], pass_fds=(theirs.fileno(), pool.fd), env=environment)
            stack.pop_all()
        return cls(number, process, channel, pool)

    def end(self) -> int:
        """Wait until the host has ended, or kill it; return its exit code, negative for a signal."""
        self.pool.close()
        try:
            return self.process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class HostProcesses:
    """All hosts of a worker.

    Args:
        count: how many there are.
        command: starts one; see HostProcess.start().
        pool_bytes: bound of the shared memory of one host.
        observer: receives what happens to jobs.
        report_ready: called with whether any host takes messages, whenever that changes.
        report_failing: called once if hosts exit again and again soon after their start.
        backoff_seconds: before the first restart; twice as long before each further one, up to MAX_BACKOFF_SECONDS.
    """

    def __init__(
        self,
        count: int,
        command: Sequence[str],
        *,
        pool_bytes: int,
        observer: JobObserver,
        report_ready: Callable[[bool], object],
        report_failing: Callable[[], object],
        backoff_seconds: float = INITIAL_BACKOFF_SECONDS,
    ) -> None:
        self._command = command
        self._pool_bytes = pool_bytes
        self._observer = observer
        self._report_ready = report_ready
        self._report_failing = report_failing
        self._backoff_seconds = backoff_seconds
        self._count = count
        self._reporting = threading.Lock()  # guards the next one
        self._ready: set[int] = set()
        self._lock = threading.Lock()  # guards the next two
        self._hosts: dict[int, HostProcess] = {}
        self._draining = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the processes; they wait until the model is loaded."""
        with self._lock:
            self._hosts = {number: self._start(number) for number in range(1, self._count + 1)}

    @property
    def pids(self) -> list[int]:
        with self._lock:
            return [host.process.pid for host in self._hosts.values()]

    def serve(self, model: ModelLoaded, batches: LocalBatches, *, preparing: Executor | None = None) -> None:
        """Let the hosts take jobs for a model that is loaded; returns at once."""
        for number in list(self._hosts):
            thread = threading.Thread(
                target=self._supervise, args=(number, model, batches, preparing), name=f"host-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def drain(self, timeout_seconds: float) -> bool:
        """Let each host finish its jobs and end; kill those that do not in time.  Return whether all ended in order."""
        deadline = time.monotonic() + timeout_seconds
        self._signal(signal.SIGTERM)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        is_drained = not any(thread.is_alive() for thread in self._threads)
        self.kill()
        return is_drained

    def kill(self) -> None:
        """End all hosts at once; their jobs stall."""
        self._signal(signal.SIGKILL)
        for thread in self._threads:
            thread.join(EXIT_SECONDS)
        for host in self._hosts.values():
            host.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            self._draining.set()
            for host in self._hosts.values():
                host.process.send_signal(number)

    def _start(self, number: int) -> HostProcess:
        return HostProcess.start(number, self._command, self._pool_bytes)

    def _supervise(self, number: int, model: ModelLoaded, batches: LocalBatches, preparing: Executor | None) -> None:
        """Serve a host; when it has ended, start and serve its successor, until the worker drains."""
        consecutive_exits = 0
        while True:
            started_at = time.monotonic()
            if host := self._hosts.get(number):
                self._serve_one(host, model, batches, preparing)
            if self._draining.is_set():
                return
            was_healthy = time.monotonic() - started_at >= MIN_HEALTHY_SECONDS
            consecutive_exits = 1 if was_healthy else consecutive_exits + 1
            if consecutive_exits >= MAX_CONSECUTIVE_EXITS:
                self._report_failing()
                return
            self._draining.wait(min(self._backoff_seconds * 2 ** (consecutive_exits - 1), MAX_BACKOFF_SECONDS))
            self._restart(number)

    def _serve_one(
        self, host: HostProcess, model: ModelLoaded, batches: LocalBatches, preparing: Executor | None
    ) -> None:
        connection = HostConnection(
            host.channel,
            host.pool,
            batches,
            preparing=preparing,
            handle=lambda message: self._handle(host.number, message),
        )
        try:
            connection.serve(model)
        except TimeoutError:
            log.error("host_hung", host=host.number)
            host.process.kill()
        except Exception:
            log.exception("host_connection_failed", host=host.number)
            host.process.kill()
        self._change_ready(host.number, False)
        code = host.end()
        if not self._draining.is_set():
            log.error("host_ended", host=host.number, exit_code=code)

    def _restart(self, number: int) -> None:
        """Start a host again, unless the worker drains; one that cannot be started counts as one that has ended."""
        with self._lock:
            self._hosts.pop(number, None)
            if self._draining.is_set():
                return
            try:
                self._hosts[number] = self._start(number)
            except OSError as error:
                log.error("host_not_started", host=number, reason=str(error))

    def _handle(self, number: int, message: Message) -> None:
        match message:
            case JobCompleted():
                self._observer.job_completed(message.priority, message.state, message.code, message.timings_ms)
            case JobDropped():
                self._observer.job_dropped(message.reason)
            case ReadinessChanged(is_ready=is_ready):
                self._change_ready(number, is_ready)

    def _change_ready(self, number: int, is_ready: bool) -> None:
        # Reported within a lock of its own, so that reports of two hosts keep their order.
        with self._reporting:
            was_any_ready = bool(self._ready)
            (self._ready.add if is_ready else self._ready.discard)(number)
            if bool(self._ready) != was_any_ready:
                self._report_ready(bool(self._ready))


def build_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a host, which reads settings and may find credentials for the bucket in it."""
    return {name: value for name, value in environ.items() if not name.startswith(_OF_ENGINE)}


def build_host_command(worker_id: str) -> list[str]:
    """Return the command that starts a host, but for the arguments that HostProcess.start() adds."""
    return [sys.executable, "-m", "worker.host", worker_id]
