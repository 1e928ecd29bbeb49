"""The deadline of a transfer, which moves on as its bytes come.  No I/O and no clock."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MinimumRate:
    """A transfer may stand still for `stall_seconds` in all, and gains time with its bytes, never more than that.

    One that keeps `bytes_per_second` never ends; one that trickles ends after about `stall_seconds`.
    """

    stall_seconds: float
    bytes_per_second: float

    def start(self, now: float) -> float:
        """Return the deadline of a transfer that begins now."""
        return now + self.stall_seconds

    def get_slow_bound(self, now: float) -> float:
        """Return the deadline below which a transfer has lost half of its time."""
        return now + self.stall_seconds / 2

    def extend(self, deadline: float, now: float, nbytes: int) -> float:
        """Return the deadline after `nbytes` more have come."""
        return min(deadline + nbytes / self.bytes_per_second, now + self.stall_seconds)
