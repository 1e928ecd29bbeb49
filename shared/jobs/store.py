"""The job store: the state of every job, in Redis hashes and sorted sets that only Lua scripts change.

Here a job is created, read and ended; its attempts are in shared/jobs/attempts.py, the queues in shared/jobs/queues.py.

Each transition is one script, so it is atomic, and every time stamp is by the clock of Redis, so that machines whose
clocks differ agree about leases.  No images and no masks here.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

from shared import redis_keys
from shared.errors import UnknownJob
from shared.jobs.attempts import RETRY_DELAY_SECONDS, JobAttempts
from shared.jobs.creation import (
    account_keys,
    creation_keys,
    image_arguments,
    limit_arguments,
    payload_arguments,
    payload_entry,
    submission_arguments,
    submission_keys,
)
from shared.jobs.messages import job_queue, list_model_queues, queue_name
from shared.jobs.model import Failure, Job, JobRequest, JobState
from shared.jobs.outcomes import (
    CreateOutcome,
    DiscardOutcome,
    FinishOutcome,
    PurgeOutcome,
    RecordSucceededOutcome,
    RemoveWaiterOutcome,
)
from shared.jobs.queues import JobQueues
from shared.jobs.records import FIELDS, build_job
from shared.jobs.refusals import REFUSALS, build_refusal
from shared.jobs.script import Script
from shared.jobs.service_times import build_service_time
from shared.jobs.store_values import (
    NO_LIMITS,
    UNBOUNDED,
    Claim,
    Created,
    DedupKey,
    InputPayload,
    LoadSnapshot,
    QueueLimits,
    TakenMessage,
)
from shared.redis_client import RedisClient, translate_redis_errors
from shared.redis_clock import RedisClock
from shared.settings import Settings

__all__ = [
    "UNBOUNDED",
    "Claim",
    "Created",
    "DedupKey",
    "InputPayload",
    "JobStore",
    "LoadSnapshot",
    "QueueLimits",
    "TakenMessage",
    "open_job_store",
]

# Longer than any process may still write for a purged job, and than an idempotency key lives.
PURGED_SECONDS = 24 * 3600


class JobStore:
    """Thread-safe.  Every method may raise StoreUnavailable.

    Args:
        max_attempts, max_retries: as MASKMILL_MAX_ATTEMPTS and MASKMILL_MAX_RETRIES.
        retry_delay_seconds: the first delay of JobAttempts.postpone().

    clock: of Redis; the answers of frequent scripts keep it exact.
    attempts: the jobs that run.  queues: the jobs that wait for it.
    """

    def __init__(
        self,
        client: RedisClient,
        *,
        lease_seconds: float,
        max_attempts: int,
        max_retries: int = UNBOUNDED,
        retry_delay_seconds: float = RETRY_DELAY_SECONDS,
    ) -> None:
        self.clock = RedisClock(client)
        self.attempts = JobAttempts(
            client,
            self.clock,
            lease_seconds=lease_seconds,
            max_attempts=max_attempts,
            max_retries=max_retries,
            retry_delay_seconds=retry_delay_seconds,
        )
        self.queues = JobQueues(client, self.clock)
        self._redis = client
        self._create = Script(client, "create", CreateOutcome)
        self._discard = Script(client, "discard", DiscardOutcome)
        self._finish = Script(client, "finish", FinishOutcome)
        self._record_succeeded = Script(client, "record_succeeded", RecordSucceededOutcome)
        self._remove_waiter = Script(client, "remove_waiter", RemoveWaiterOutcome)
        self._purge = Script(client, "purge", PurgeOutcome)

    @translate_redis_errors
    def create(
        self,
        request: JobRequest,
        *,
        message: str | None = None,
        limits: QueueLimits = NO_LIMITS,
        dedup: DedupKey | None = None,
        payload: InputPayload | None = None,
        is_recovered: bool = False,
        gone_id: str | None = None,
    ) -> Created:
        """Record a job as queued and enqueue its message, unless an earlier job stands for it.

        Without a message the job is orphaned; the steward finds it.  A caller that was coalesced with a job and does
        not wait for its end must call remove_waiter().

        Args:
            is_recovered: Redis has lost the job: it is created even if another one has its idempotency key by now, its
                place in the queue is that of its creation, and its result may be stored already.
            gone_id: an earlier job of which nothing is stored any more: its idempotency key is free.

        Raises:
            QueueFull: a bound of the queue is reached.
            QuotaExceeded: a quota of the tenant is used up.
            PayloadsFull: a bound of the payload is reached.
            StoreFull: Redis is out of memory.
            IdempotencyConflict: the key was used for something else.
            ClientIdTaken: the caller's own id names a job that was submitted otherwise.
        """
        queue = queue_name(request.model, request.priority)
        outcome, (job_id, *_) = self._create(
            {**submission_keys(request), **creation_keys(request, dedup)},
            payload=payload.image if payload else b"",
            id=request.id,
            request=request.to_json(),
            queue=queue,
            message=message,
            is_recovered=is_recovered,
            created_at=request.created_at,
            **image_arguments(request),
            **limit_arguments(limits),
            gone_id=gone_id,
            **submission_arguments(request, dedup),
            **(payload_arguments(request, payload) if payload else {}),
        )
        if outcome in REFUSALS:
            raise build_refusal(outcome, limits, self.clock.now(), client_id=request.client_id)
        return Created(job_id, outcome)

    @translate_redis_errors
    def find_repeated(self, request: JobRequest) -> str | None:
        """Return the job that the idempotency key of a request stands for; None if it stands for none.

        Raises:
            IdempotencyConflict: the key was used for something else.
        """
        if request.idempotency is None:
            return None
        earlier = self._redis.hgetall(submission_keys(request)["idempotency"])
        if earlier and earlier["fingerprint"] != request.idempotency.fingerprint:
            raise build_refusal(CreateOutcome.CONFLICT, NO_LIMITS, self.clock.now(), client_id=request.client_id)
        return earlier.get("id")

    @translate_redis_errors
    def remove_waiter(self, job_id: str) -> int:
        """Decrement the number of callers that wait for a job; return how many remain."""
        _, values = self._remove_waiter({"job": redis_keys.job(job_id)})
        return int(values[0]) if values else 0

    @translate_redis_errors
    def forget_dedup(self, dedup: DedupKey, job_id: str) -> None:
        """Stop reusing a job's result, because it is not stored any more."""
        key = redis_keys.dedup(dedup.key)
        if self._redis.get(key) == job_id:
            self._redis.delete(key)

    @translate_redis_errors
    def discard(self, request: JobRequest) -> None:
        """Roll back a job that no worker has claimed."""
        keys = {**submission_keys(request), "input": redis_keys.input_payload(request.id)}
        self._discard(keys, id=request.id)

    @translate_redis_errors
    def finish(
        self,
        request: JobRequest,
        state: JobState,
        *,
        failure: Failure | None = None,
        timings_ms: Mapping[str, float] | None = None,
        batch_size: int = 0,
    ) -> bool:
        """Bring a job to a final state, delete its input payload, wake its waiters, put it into the outbox.

        Returns False if it is unknown or final already.

        Args:
            batch_size: images that were on the device together; each had its share of the device's time.

        Only shared/jobs/completion.py may call this: the bucket decides first.
        """
        outcome, _ = self._finish(
            {
                "job": redis_keys.job(request.id),
                **account_keys(request),
                "completed": redis_keys.COMPLETED,
                "ended_work": redis_keys.ended_work(request.model),
            },
            id=request.id,
            model=request.model,
            state=state,
            failure=json.dumps(asdict(failure)) if failure else None,
            timings=json.dumps(dict(timings_ms or {})),
            record_seconds=request.retention.record_seconds,
            has_client_id=request.client_id is not None,
            payload_entry=payload_entry(request),
            tenant=request.tenant,
            bytes=request.image.bytes if request.image else 0,
            device_ms=round((timings_ms or {}).get("device", 0) / max(1, batch_size)),
            batch_size=batch_size,
            failure_code=failure.code if failure else None,
            listed_tenant=request.tenant if request.retention.is_listed else None,
            has_webhook=request.webhook is not None,
            queues=list_model_queues(request.model),
            **build_service_time(request, timings_ms or {}, batch_size),
        )
        return outcome is FinishOutcome.FINISHED

    @translate_redis_errors
    def record_succeeded(self, request: JobRequest, *, timings_ms: Mapping[str, float], attempt_name: str) -> None:
        """Record a job that has succeeded without a worker; safe to repeat.

        Its result must be stored: the bucket decides first.
        """
        self._record_succeeded(
            {
                "job": redis_keys.job(request.id),
                "tenant_jobs": redis_keys.tenant_jobs(request.tenant),
                "tenants": redis_keys.TENANTS,
                "purged": redis_keys.purge_mark(request.id),
            },
            id=request.id,
            request=request.to_json(),
            queue=job_queue(request),
            tenant=request.tenant,
            attempt_name=attempt_name,
            timings=json.dumps(dict(timings_ms)),
            record_seconds=request.retention.record_seconds,
            listed_tenant=request.tenant if request.retention.is_listed else None,
            has_webhook=request.webhook is not None,
        )

    @translate_redis_errors
    def purge(self, job_id: str) -> None:
        """Delete all that Redis holds of a job, in any state; its worker, if it has one, loses the lease.

        Only shared/jobs/purge.py may call this: the bucket remembers the purge first.
        """
        self._purge(
            {
                "job": redis_keys.job(job_id),
                "input": redis_keys.input_payload(job_id),
                "reply": redis_keys.reply_payload(job_id),
                "purged": redis_keys.purge_mark(job_id),
                "kept_mark": redis_keys.KEPT_MARK_PREFIX + job_id,
            },
            id=job_id,
            purged_seconds=PURGED_SECONDS,
        )

    @translate_redis_errors
    def forget_deadline(self, job_id: str) -> None:
        """Stop to watch the deadline of a job that is final, or has no record any more."""
        self._redis.zrem(redis_keys.DEADLINES, job_id)

    @translate_redis_errors
    def is_purged(self, job_id: str) -> bool:
        return bool(self._redis.exists(redis_keys.purge_mark(job_id)))

    @translate_redis_errors
    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            UnknownJob: Redis has no record of it; the bucket may still hold its result.
        """
        values = self._redis.hmget(redis_keys.job(job_id), FIELDS)
        if values[0] is None:
            raise UnknownJob(f"There is no job {job_id}, or it has expired.")
        return build_job({name: value or "" for name, value in zip(FIELDS, values, strict=True)})

    @translate_redis_errors
    def find_client_id(self, tenant: str, client_id: str) -> str | None:
        """Return the id of the job that a tenant has submitted under an id of its own; None if there is none."""
        return self._redis.hget(redis_keys.client_id(tenant, client_id), "id")

    @translate_redis_errors
    def is_known(self, job_id: str) -> bool:
        return bool(self._redis.exists(redis_keys.job(job_id)))

    @translate_redis_errors
    def get_queue(self, job_id: str) -> str | None:
        """Return the queue of a job, also of one that this version cannot read; None if Redis has no record of it."""
        return self._redis.hget(redis_keys.job(job_id), "queue")


def open_job_store(client: RedisClient, settings: Settings) -> JobStore:
    """Return the job store of the settings; nothing is sent yet."""
    return JobStore(
        client,
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        max_retries=settings.max_retries,
    )
