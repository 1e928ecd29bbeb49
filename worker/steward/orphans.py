"""Orphaned jobs: how many messages of a queue are lost, found from repeated counts."""

from dataclasses import dataclass


@dataclass(slots=True)
class _Shortage:
    since: float
    least: int


class OrphanDetector:
    """Counts the messages that a queue lacks for longer than a grace period.

    A message that a worker has just taken is missing for a moment, so of all counts within the period the least counts.
    Not thread-safe.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._shortages: dict[str, _Shortage] = {}

    def observe(self, queue: str, missing: int, *, now: float) -> int:
        """Return how many messages are lost, once per grace period.

        Args:
            missing: how many more jobs than messages the queue has now.
            now: by time.monotonic().
        """
        if missing <= 0:
            self._shortages.pop(queue, None)
            return 0
        shortage = self._shortages.setdefault(queue, _Shortage(now, missing))
        shortage.least = min(shortage.least, missing)
        if now - shortage.since < self._grace_seconds:
            return 0
        del self._shortages[queue]
        return shortage.least
