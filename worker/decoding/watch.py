"""Watches one decode: reports that it is slow, and lowers the priority of its process."""

import time
from collections.abc import Callable

from shared.errors import DecoderLost
from worker.decoding.processes import DecoderProcess

SLOW_SECONDS = 0.3
# CPU time on one image, and the niceness from then on.  Large ordinary images take some seconds and shall not starve
# beside a busy engine: at 10 a process gets a tenth of what one at 0 gets, at 15 a thirtieth.
_NICENESS_AFTER_SECONDS = ((3.0, 15), (0.3, 10))
# Only a process that hangs, or is stopped, takes as long.
_MIN_WALL_SECONDS = 60.0
_WALL_SECONDS_PER_CPU_SECOND = 30.0


class DecodeWatch:
    """For one image; `on_slow` is called at most once, `check` while the decoder works.  Both may raise an error."""

    def __init__(self, on_slow: Callable[[], object], check: Callable[[], object] = lambda: None) -> None:
        self._on_slow = on_slow
        self.check = check
        self._is_reported = False

    def report(self) -> None:
        """Report that the image is slow."""
        if not self._is_reported:
            self._is_reported = True
            self._on_slow()

    def wait(self, decoder: DecoderProcess, *, cpu_seconds: float) -> None:
        """Wait for the answer of a decoder, or for its end.

        Args:
            cpu_seconds: after which the system kills it.

        Raises:
            DecoderLost: it had no answer after many times as long.
        """
        deadline = time.monotonic() + _MIN_WALL_SECONDS + _WALL_SECONDS_PER_CPU_SECOND * cpu_seconds
        start = decoder.cpu_seconds()
        while not decoder.wait(SLOW_SECONDS):
            self.report()
            self.check()
            used = decoder.cpu_seconds() - start
            niceness = next((niceness for seconds, niceness in _NICENESS_AFTER_SECONDS if used > seconds), 0)
            if niceness:
                decoder.lower_priority(niceness)
            if time.monotonic() > deadline:
                raise DecoderLost("The process that decoded the image got too little CPU time")
