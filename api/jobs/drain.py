"""The stop of a gateway process, as requests that wait for a job see it.

The server decides when: it begins the drain at SIGTERM, and ends the waits shortly before its grace period is over.
"""

from collections.abc import Callable

from shared.errors import GatewayStopping


class Drain:
    """Thread-safe: each of its flags only ever becomes true."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """Take a function that has every thread that waits for a job poll at once."""
        self._wake = wake
        self._is_ending = False
        self.has_begun = False

    def begin(self) -> None:
        """End the requests that may be answered with the job as it is."""
        self.has_begun = True
        self._wake()

    def end_waits(self) -> None:
        """End the requests that have nothing to answer without a result."""
        self._is_ending = True
        self._wake()

    def check(self) -> None:
        """Raise GatewayStopping once no request may wait any more."""
        if self._is_ending:
            raise GatewayStopping()
