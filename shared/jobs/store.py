"""The truth about the state of every job: Redis hashes and sorted sets that only the Lua scripts beside it change.

Each transition is one script, so it happens whole or not at all, and every time stamp is by the clock of Redis, so that
machines whose clocks differ agree about leases.  No images and no masks here.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from shared.errors import IdempotencyConflict, QueueFull, UnknownJob
from shared.jobs.messages import SegmentMessage, queue_name
from shared.jobs.model import Failure, Job, JobRequest, JobState, Priority
from shared.redis_client import RedisClient, translate_redis_errors

EVENTS = "mm:events"
LEASES = "mm:leases"
TENANTS = "mm:tenants"
QUEUES = "mm:queues"
INTERACTIVE_RECORD_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The caller's key for a submission, and a fingerprint of what was submitted under it."""

    key: str
    fingerprint: str
    seconds: int = 24 * 3600


@dataclass(frozen=True, slots=True)
class Work:
    """What a job computes, so that whoever asks for the same is given the same result.

    key: of the tenant, the image, the model's revision and the parameters.
    take: whether an earlier job's result will do; otherwise this job is made anyhow, and offered to those who follow.
    seconds: how long the result is offered; without it, as long as it is kept.
    """

    key: str
    take: bool = True
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Handover:
    """What the workers get in the same step in which a job is recorded, so that there is never one without the other.

    image: if there is any, it is kept in Redis for so many seconds.
    """

    message: SegmentMessage
    image: bytes = b""
    image_seconds: float = 0.0


class How(StrEnum):
    """How a submission was admitted: which job stands for it."""

    CREATED = "created"  # its own
    REPEATED = "repeated"  # the one that was submitted under the same idempotency key
    JOINED = "joined"  # one that is doing the same work just now
    KNOWN = "known"  # one that has done it


@dataclass(frozen=True, slots=True)
class Admission:
    job_id: str
    how: How


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt of a job, for as long as its lease is renewed."""

    request: JobRequest
    attempt: int


class JobStore:
    """Thread-safe.  Every method may raise StoreUnavailable."""

    def __init__(
        self, client: RedisClient, *, lease_seconds: float, max_attempts: int, result_ttl_seconds: int
    ) -> None:
        self._redis = client
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._result_ttl_seconds = result_ttl_seconds
        folder = Path(__file__).parent / "scripts"
        self._scripts: Mapping[str, Callable[..., Any]] = {
            path.stem: client.register_script(path.read_text()) for path in folder.glob("*.lua")
        }

    @translate_redis_errors
    def create(
        self,
        request: JobRequest,
        *,
        max_queued: int = 2**53,
        idempotency: Idempotency | None = None,
        work: Work | None = None,
        handover: Handover | None = None,
    ) -> Admission:
        """Record a job as queued and hand it over, unless an earlier one stands for it.

        Without a handover nobody is told; after a while the steward takes the job for a forgotten one.
        Who joins a job must leave() it if he does not wait for its end.

        Raises:
            QueueFull: as many as `max_queued` wait already.
            IdempotencyConflict: the key was used for something else.
        """
        queue = queue_name(request.model, request.priority)
        work_key = f"mm:work:{work.key if work else ''}"
        outcome, job_id = self._scripts["create"](
            keys=[*self._keys_of(request, idempotency), work_key, queue, image_key(request.id)],
            args=[
                request.id,
                request.to_json(),
                queue,
                request.deadline_at or "",
                max_queued,
                idempotency.fingerprint if idempotency else "",
                idempotency.seconds if idempotency else 0,
                request.tenant if request.priority is Priority.NORMAL else "",
                "" if work is None else "take" if work.take else "offer",
                (work and work.seconds) or self._result_ttl_seconds,
                handover.message.to_celery(queue) if handover else "",
                handover.image if handover else "",
                int(1000 * handover.image_seconds) if handover else 0,
            ],
        )
        if outcome == "full":
            raise QueueFull("Too many jobs are waiting; try again when some of them are done.", limit=max_queued)
        if outcome == "conflict":
            raise IdempotencyConflict("This Idempotency-Key was used for another image or other parameters.")
        return Admission(job_id, How(outcome))

    @translate_redis_errors
    def leave(self, job_id: str) -> int:
        """Note that one caller waits no more for an interactive job; return how many still do."""
        return int(self._scripts["remove_waiter"](keys=[_job_key(job_id)]))

    @translate_redis_errors
    def forget_work(self, work: Work, job_id: str) -> None:
        """Offer a job's result no more: it has turned out to be gone."""
        key = f"mm:work:{work.key}"
        if self._redis.get(key) == job_id:
            self._redis.delete(key)

    @translate_redis_errors
    def discard(self, request: JobRequest, *, idempotency: Idempotency | None = None) -> None:
        """Take back a job that could not be published."""
        self._scripts["discard"](keys=self._keys_of(request, idempotency), args=[request.id])

    @translate_redis_errors
    def claim(self, job_id: str, *, worker: str) -> Claim | str:
        """Take a queued job.

        Returns:
            The claim; or, if it cannot be had, why: a state, "late" (its deadline has passed) or "unknown".
        """
        outcome, *rest = self._scripts["claim"](
            keys=[_job_key(job_id), LEASES], args=[job_id, worker, self._lease_seconds]
        )
        if outcome != "claimed":
            return str(outcome)
        attempt, request = rest
        return Claim(JobRequest.from_json(request), int(attempt))

    @translate_redis_errors
    def renew(self, job_id: str, attempt: int) -> bool:
        """Prolong the lease; False if the job is no longer this attempt's (canceled, or given to another worker)."""
        keys, args = [_job_key(job_id), LEASES], [job_id, attempt, self._lease_seconds]
        return bool(self._scripts["renew"](keys=keys, args=args))

    @translate_redis_errors
    def give_back(self, job_id: str, attempt: int) -> None:
        """Return a running job to its queue without holding it against the job; the steward publishes it again."""
        self._scripts["requeue"](keys=[_job_key(job_id), LEASES], args=[job_id, attempt, "returned", 0])

    @translate_redis_errors
    def requeue_stalled(self, job_id: str) -> str:
        """Take a job from a worker that has not renewed its lease.

        Returns:
            "queued" if it must be published again, "exhausted" if it lost its last worker and must be failed, and
            anything else if there is nothing to do.
        """
        args = [job_id, "", "lapsed", self._max_attempts]
        return str(self._scripts["requeue"](keys=[_job_key(job_id), LEASES], args=args))

    @translate_redis_errors
    def finish(
        self,
        request: JobRequest,
        state: JobState,
        *,
        failure: Failure | None = None,
        timings_ms: Mapping[str, float] | None = None,
    ) -> bool:
        """Bring a job to a final state and wake whoever waits for it; False if it is unknown or had ended already.

        Only shared/jobs/completion.py may call this: the bucket decides first.
        """
        # The bucket keeps the end of an interactive job as long as any; Redis would not have the room.
        interactive = request.priority is Priority.INTERACTIVE
        record = min(self._result_ttl_seconds, INTERACTIVE_RECORD_SECONDS) if interactive else self._result_ttl_seconds
        failed = json.dumps(asdict(failure)) if failure else ""
        timings = json.dumps(dict(timings_ms or {}))
        outcome = self._scripts["finish"](
            keys=[_job_key(request.id), LEASES],
            args=[request.id, state, failed, timings, record],
        )
        return bool(outcome == "finished")

    @translate_redis_errors
    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            UnknownJob: Redis has no record of it; the bucket may still know its end.
        """
        found = self._redis.hgetall(_job_key(job_id))
        if not found:
            raise UnknownJob(f"There is no job {job_id}, or it has expired.")
        return _job_of(found)

    @translate_redis_errors
    def newest(self, tenant: str, *, limit: int, before: str | None = None) -> tuple[Sequence[Job], str | None]:
        """Return one page of a tenant's batch jobs, newest first, from below the id `before`; and the next `before`.

        A page may hold fewer than `limit` jobs before the last one: a record can go before its place in the list does.
        """
        highest = f"({before}" if before else "+"
        ids = self._redis.zrevrangebylex(_index_key(tenant), highest, "-", start=0, num=limit)
        with self._redis.pipeline(transaction=False) as batch:
            for job_id in ids:
                batch.hgetall(_job_key(job_id))
            jobs = [_job_of(found) for found in batch.execute() if found]
        return jobs, ids[-1] if len(ids) == limit else None

    @translate_redis_errors
    def is_known(self, job_id: str) -> bool:
        return bool(self._redis.exists(_job_key(job_id)))

    @translate_redis_errors
    def queues(self) -> Sequence[str]:
        return sorted(self._redis.smembers(QUEUES))

    @translate_redis_errors
    def backlog(self, queue: str) -> int:
        """Return how many jobs wait in a queue, whether or not the broker has their messages."""
        return int(self._redis.zcard(_queued_key(queue)))

    @translate_redis_errors
    def running(self) -> int:
        """Return how many jobs are in the hands of workers."""
        return int(self._redis.zcard(LEASES))

    @translate_redis_errors
    def lapsed(self, *, limit: int = 1000) -> Sequence[str]:
        """Return the ids of running jobs whose lease is over."""
        seconds, micros = self._redis.time()
        now = float(seconds) + float(micros) / 1e6
        return list(self._redis.zrange(LEASES, "-inf", now, byscore=True, offset=0, num=limit))

    @translate_redis_errors
    def forgotten(self, queue: str, *, grace_seconds: float, waiting_messages: int, limit: int = 1000) -> Sequence[str]:
        """Return the ids of queued jobs that are in nobody's hands, each once per grace period."""
        args = [grace_seconds, waiting_messages, limit]
        return list(self._scripts["find_orphaned"](keys=[_queued_key(queue)], args=args))

    @translate_redis_errors
    def unlist_before(self, floor: str) -> None:
        """Drop every id below `floor` from the tenants' lists; the records themselves expire by their own time."""
        for tenant in self._redis.smembers(TENANTS):
            self._redis.zremrangebylex(_index_key(tenant), "-", f"({floor}")

    @translate_redis_errors
    def check(self) -> None:
        """Raise StoreUnavailable unless Redis answers."""
        self._redis.ping()

    def _keys_of(self, request: JobRequest, idempotency: Idempotency | None) -> list[str]:
        return [
            _job_key(request.id),
            _queued_key(queue_name(request.model, request.priority)),
            f"mm:idempotency:{request.tenant}:{idempotency.key if idempotency else ''}",
            _index_key(request.tenant),
        ]


def image_key(job_id: str) -> str:
    """Return where the image of an interactive job lies."""
    return f"mm:image:{job_id}"


def _job_key(job_id: str) -> str:
    return f"mm:job:{job_id}"


def _queued_key(queue: str) -> str:
    return f"mm:queued:{queue}"


def _index_key(tenant: str) -> str:
    return f"mm:jobs:{tenant}"


def _job_of(found: Mapping[str, str]) -> Job:
    return Job(
        request=JobRequest.from_json(found["request"]),
        state=JobState(found["state"]),
        attempt=int(found["attempt"]),
        lapses=int(found["lapses"]),
        worker=found.get("worker"),
        started_at=float(found["started_at"]) if "started_at" in found else None,
        ended_at=float(found["ended_at"]) if "ended_at" in found else None,
        failure=Failure(**json.loads(found["failure"])) if found.get("failure") else None,
        timings_ms=json.loads(found.get("timings") or "{}"),
    )
