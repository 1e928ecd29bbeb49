"""Keeps the processes of a stack running: reports each exit with the end of the log, and restarts with backoff."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.local.processes import Process

INITIAL_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 10.0
# An exit after this long starts a new count of consecutive exits.
MIN_HEALTHY_SECONDS = 30.0
MAX_CONSECUTIVE_EXITS = 5


class RestartLimitReached(Exception):
    """A process exited MAX_CONSECUTIVE_EXITS times in a row soon after its start; the text is one line."""


@dataclass(slots=True)
class _Watch:
    """One process under supervision.  `restart_at` is set while it waits for its restart."""

    process: Process
    started_at: float
    consecutive_exits: int = 0
    restart_at: float | None = None


class Supervisor:
    """Watches processes that were started before; call `check` a few times a second."""

    def __init__(
        self,
        processes: Sequence[Process],
        *,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._clock = clock
        self._watches = [_Watch(process, clock()) for process in processes]

    def check(self) -> None:
        """Report the processes that have exited since the last call, and start those whose backoff is over.

        Raises:
            RestartLimitReached: one has exited too often in a row.
        """
        for watch in self._watches:
            if watch.restart_at is None:
                if not watch.process.is_alive:
                    self._record_exit(watch)
            elif self._clock() >= watch.restart_at:
                self._restart(watch)

    def _record_exit(self, watch: _Watch) -> None:
        now = self._clock()
        was_healthy = now - watch.started_at >= MIN_HEALTHY_SECONDS
        watch.consecutive_exits = 1 if was_healthy else watch.consecutive_exits + 1
        process = watch.process
        if watch.consecutive_exits >= MAX_CONSECUTIVE_EXITS:
            raise RestartLimitReached(
                f"{process.name} died {watch.consecutive_exits} times in a row; see {process.log}"
            )
        backoff = min(INITIAL_BACKOFF_SECONDS * 2 ** (watch.consecutive_exits - 1), MAX_BACKOFF_SECONDS)
        watch.restart_at = now + backoff
        log_tail = "".join(f"\n    {line}" for line in process.tail())
        self._report(
            f"{process.name} ended with exit code {process.exit_code}; starting it again in {backoff:.1f} s."
            f"  The end of {process.log}:{log_tail}"
        )

    def _restart(self, watch: _Watch) -> None:
        # Children that outlived it would still hold its port.
        watch.process.kill()
        watch.process.start()
        watch.restart_at = None
        watch.started_at = self._clock()
        self._report(f"{watch.process.name} runs again.")
