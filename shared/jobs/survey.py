"""Questions of the steward about all jobs, most of them in one round trip; none changes the state of a job."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from shared import redis_keys
from shared.jobs.keeping import MARK_SECONDS
from shared.jobs.model import JobState
from shared.jobs.outcomes import (
    EndRetentionOutcome,
    FindDelayedOutcome,
    FindOverdueOutcome,
    FindStalledOutcome,
    MeasureAgesOutcome,
)
from shared.jobs.script import Script
from shared.redis_client import RedisClient, translate_redis_errors

# Jobs that are looked at in one round trip.
PAGE = 1000
# In which the worker of a running job comes to the end of a stage, and says which one it had reached.
OVERDUE_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class StalledJobs:
    """Running jobs whose leases have expired, and the time of Redis at that moment, unix seconds."""

    now: float
    job_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class DelayedJob:
    """A released job whose delay is over."""

    job_id: str
    queue: str


@dataclass(frozen=True, slots=True)
class JobEnd:
    """The state of a job, None for one that this version does not know; and the code of its failure, or nothing."""

    state: JobState | None
    failure_code: str = ""

    @classmethod
    def from_record(cls, state: str, failure: str | None) -> Self:
        # A newer version may have added states, and members to a failure.
        known = JobState(state) if state in set(JobState) else None
        return cls(known, json.loads(failure)["code"] if failure else "")


@dataclass(frozen=True, slots=True)
class JobAges:
    """Seconds, by the clock of Redis, of the oldest job of each kind; 0 if there is none.

    queued: since it was created.  running: since it was claimed.  stalled: since its lease expired.
    """

    queued: float
    running: float
    stalled: float


class JobSurvey:
    """Thread-safe.  Every method may raise StoreUnavailable."""

    def __init__(self, client: RedisClient) -> None:
        self._redis = client
        self._find_stalled = Script(client, "find_stalled", FindStalledOutcome)
        self._find_delayed = Script(client, "find_delayed", FindDelayedOutcome)
        self._find_overdue = Script(client, "find_overdue", FindOverdueOutcome)
        self._end_retention = Script(client, "end_retention", EndRetentionOutcome)
        self._measure_ages = Script(client, "measure_ages", MeasureAgesOutcome)

    @translate_redis_errors
    def find_stalled(self) -> StalledJobs:
        """Return up to PAGE jobs, those whose leases expired first."""
        _, (now, *job_ids) = self._find_stalled({"leases": redis_keys.LEASES}, limit=PAGE)
        return StalledJobs(float(now), job_ids)

    @translate_redis_errors
    def end_retention(self, job_ids: Collection[str], *, of_part: bool) -> frozenset[str]:
        """Return those of the jobs whose objects may be deleted now: no caller can have them kept any more.

        The others were kept a moment ago, perhaps after the objects that say so were listed.

        Args:
            of_part: whether only a part of each job is deleted, as its image is, so that the rest can still be kept.
        """
        if not job_ids:
            return frozenset()
        _, ended = self._end_retention(
            {},
            ids=sorted(job_ids),
            kept_mark=redis_keys.KEPT_MARK_PREFIX,
            ended_mark=redis_keys.RETENTION_ENDED_PREFIX,
            seconds=None if of_part else MARK_SECONDS,
        )
        return frozenset(ended)

    @translate_redis_errors
    def find_delayed(self) -> Sequence[DelayedJob]:
        """Return up to PAGE jobs of each queue."""
        _, found = self._find_delayed({"queues": redis_keys.QUEUES}, limit=PAGE)
        return [DelayedJob(job_id, queue) for queue, *job_ids in found for job_id in job_ids]

    @translate_redis_errors
    def find_overdue(self) -> Sequence[str]:
        """Return up to PAGE jobs that have not ended by their deadline, running ones OVERDUE_GRACE_SECONDS after it."""
        _, found = self._find_overdue(
            {"deadlines": redis_keys.DEADLINES}, limit=PAGE, grace_seconds=OVERDUE_GRACE_SECONDS
        )
        return found

    @translate_redis_errors
    def find_ends(self, job_ids: Sequence[str]) -> Sequence[JobEnd | None]:
        """Return how each job has ended; None for one that Redis does not know."""
        with self._redis.pipeline(transaction=False) as batch:
            for job_id in job_ids:
                batch.hmget(redis_keys.job(job_id), "state", "failure")
            records = batch.execute()
        return [JobEnd.from_record(state, failure) if state else None for state, failure in records]

    @translate_redis_errors
    def measure_ages(self) -> JobAges:
        """Return the ages of the oldest jobs, for metrics."""
        _, ages = self._measure_ages({"leases": redis_keys.LEASES, "queues": redis_keys.QUEUES})
        return JobAges(*map(float, ages))

    @translate_redis_errors
    def prune_lists(self, *, is_thorough: bool) -> None:
        """Drop the jobs whose records have expired from the tenants' lists.

        Args:
            is_thorough: to the end of each list; else up to a page in which there is none.
        """
        for tenant in self._redis.smembers(redis_keys.TENANTS):
            key, kept = redis_keys.tenant_jobs(tenant), 0
            # Ids sort by time, and all have the same score.
            while ids := self._redis.zrange(key, "-inf", "+inf", byscore=True, offset=kept, num=PAGE):
                dropped = self._drop_expired(key, ids)
                if not dropped and not is_thorough:
                    break
                kept += len(ids) - dropped

    def _drop_expired(self, key: str, ids: Sequence[str]) -> int:
        """Drop jobs without a record from a list; return how many they are."""
        with self._redis.pipeline(transaction=False) as batch:
            for job_id in ids:
                batch.exists(redis_keys.job(job_id))
            expired = [job_id for job_id, is_kept in zip(ids, batch.execute(), strict=True) if not is_kept]
        if expired:
            self._redis.zrem(key, *expired)
        return len(expired)
