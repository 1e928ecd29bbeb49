"""The events of jobs: what the scripts have written to the log in the record of each, and what is known of it now.

The log is bounded, is written in the step that changes the job, and expires with the record.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from shared.jobs.model import Failure, JobState, QueuePlace
from shared.jobs.outcomes import WatchOutcome
from shared.jobs.records import read_failure, read_place, read_time, read_timings
from shared.jobs.script import Script
from shared.redis_client import RedisClient, translate_redis_errors


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An entry of the log.

    number: its time in unix milliseconds by the clock of Redis, or one more than that of the event before.
    name: `queued`, `running`, `stage`, `requeued`, or the final state of the job.
    """

    number: int
    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """What Redis knows of a job that is watched: its state, its log (oldest first), and members of Job."""

    state: JobState
    events: Sequence[LoggedEvent] = ()
    attempt: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    failure: Failure | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    place: QueuePlace | None = None

    @classmethod
    def from_values(cls, values: Sequence[str]) -> Self:
        """Read what watch.lua returns of a job.

        Raises:
            ValueError: a newer version wrote it.
        """
        state, log, attempt, started_at, ended_at, failure, timings, *place = values
        return cls(
            JobState(state),
            parse_log(log),
            int(attempt),
            read_time(started_at),
            read_time(ended_at),
            read_failure(failure),
            read_timings(timings),
            read_place(place),
        )


def parse_log(text: str) -> Sequence[LoggedEvent]:
    """Return the events of a log, oldest first."""
    return [LoggedEvent(*json.loads(line)) for line in text.splitlines()]


class EventLog:
    """Reads the logs of jobs.  Thread-safe."""

    def __init__(self, client: RedisClient) -> None:
        self._watch = Script(client, "watch", WatchOutcome)

    @translate_redis_errors
    def watch(self, job_ids: Sequence[str]) -> Sequence[WatchedJob | None]:
        """Return what is known of each job, None without a record; its further events are published from now on.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        _, (found,) = self._watch({}, ids=job_ids)
        return [WatchedJob.from_values(values) if values else None for values in found]
