"""Keeps the processes of a stack running: says which one has died, with its last words, and starts it again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.local.processes import Process

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
# A process that lived this long has got over whatever killed it before.
HEALTHY_SECONDS = 30.0
MOST_DEATHS_IN_A_ROW = 5


class GaveUp(Exception):
    """A process died again and again as soon as it was started; the text is one line."""


@dataclass(slots=True)
class _Watch:
    """One process under supervision.  `restart_at` is set while it is dead."""

    process: Process
    started_at: float
    deaths_in_a_row: int = 0
    restart_at: float | None = None


class Supervisor:
    """Watches processes that were started already; call `check` a few times a second."""

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
        """Report those that have died since, and start those whose pause is over.

        Raises:
            GaveUp: one has died too often in a row.
        """
        for watch in self._watches:
            if watch.restart_at is None:
                if not watch.process.is_alive:
                    self._record_death(watch)
            elif self._clock() >= watch.restart_at:
                self._restart(watch)

    def _record_death(self, watch: _Watch) -> None:
        now = self._clock()
        was_healthy = now - watch.started_at >= HEALTHY_SECONDS
        watch.deaths_in_a_row = 1 if was_healthy else watch.deaths_in_a_row + 1
        process = watch.process
        if watch.deaths_in_a_row >= MOST_DEATHS_IN_A_ROW:
            raise GaveUp(f"{process.name} died {watch.deaths_in_a_row} times in a row; see {process.log}")
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (watch.deaths_in_a_row - 1), LONGEST_PAUSE_SECONDS)
        watch.restart_at = now + pause
        last_words = "".join(f"\n    {line}" for line in process.tail())
        self._report(
            f"{process.name} ended with exit code {process.exit_code}; starting it again in {pause:.1f} s."
            f"  The end of {process.log}:{last_words}"
        )

    def _restart(self, watch: _Watch) -> None:
        # Children that it left behind would still hold its port.
        watch.process.kill()
        watch.process.start()
        watch.restart_at = None
        watch.started_at = self._clock()
        self._report(f"{watch.process.name} runs again.")
