"""What callers saw of their jobs, and what the bucket holds for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.jobs.model import JobState
from tests.chaos.workload import PlannedJob

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a job that succeeded: its segments, and its files by name."""

    segments: tuple[Mapping[str, Any], ...]
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job as its caller saw it.  Times are unix seconds.

    job_id: empty if it was not accepted.
    seen_at: when the caller saw the end of the job.
    ended_at: the end of the job as the service says it.
    state: the last one that the caller saw; None if the job was unknown then.
    faults: answers that a caller who follows the rules should not get.
    unknown_seconds: the longest time for which the service did not know the accepted job.
    """

    planned: PlannedJob
    job_id: str = ""
    accepted_at: float = NEVER
    seen_at: float = NEVER
    ended_at: float = NEVER
    state: JobState | None = None
    error_type: str = ""
    attempt: int = 0
    outcome: Outcome | None = None
    faults: tuple[str, ...] = ()
    unknown_seconds: float = 0.0

    @property
    def done_at(self) -> float:
        """When the job was done; a caller sees it later, after its connection failed for instance."""
        return min(self.seen_at, self.ended_at)

    def was_in_flight(self, at: float) -> bool:
        return self.accepted_at <= at < self.done_at


@dataclass(frozen=True, slots=True)
class Published:
    """What the bucket holds for one job.

    attempt: the folder that `result.json` names; empty if there is no `result.json`.
    files: the objects in that folder, by name.
    other_attempts: folders that no `result.json` names.
    """

    job_id: str
    attempt: str
    files: Mapping[str, bytes]
    other_attempts: tuple[str, ...] = ()
