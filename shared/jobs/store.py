"""The job store: the state of every job, in Redis hashes and sorted sets that only Lua scripts change.

Each transition is one script, so it is atomic, and every time stamp is by the clock of Redis, so that machines whose
clocks differ agree about leases.  No images and no masks here.
"""

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import structlog

from shared import redis_keys
from shared.errors import UnknownJob
from shared.jobs.creation import (
    REFUSALS,
    account_keys,
    build_refusal,
    creation_keys,
    image_arguments,
    limit_arguments,
    payload_arguments,
    payload_entry,
    submission_arguments,
    submission_keys,
)
from shared.jobs.messages import job_queue, queue_name
from shared.jobs.model import MAX_PASSED_OVER, Failure, ImageFacts, Job, JobRequest, JobState, Priority, QueuePlace
from shared.jobs.outcomes import (
    CheckQueueOutcome,
    ClaimOutcome,
    CreateOutcome,
    DiscardOutcome,
    FindPlaceOutcome,
    FinishOutcome,
    LogStageOutcome,
    MeasureLoadOutcome,
    MeasureServiceOutcome,
    PurgeOutcome,
    RecordImageOutcome,
    RecordSucceededOutcome,
    ReleaseOutcome,
    RemoveWaiterOutcome,
    RenewOutcome,
    RequeueDelayedOutcome,
    RequeueStalledOutcome,
    StartIsolatedOutcome,
)
from shared.jobs.records import FIELDS, build_job, read_place
from shared.jobs.script import Script
from shared.jobs.service_times import EndedJob, ServiceTimes, build_service_time
from shared.jobs.store_values import (
    NO_LIMITS,
    UNBOUNDED,
    Claim,
    Created,
    DedupKey,
    InputPayload,
    LoadSnapshot,
    QueueLimits,
    Renewal,
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

log = structlog.get_logger()

UNREADABLE_DELAY_SECONDS = 10.0
# With the default of MASKMILL_MAX_RETRIES a job is tried for about an hour.
RETRY_DELAY_SECONDS = 2.0
MAX_RETRY_DELAY_SECONDS = 300.0
# Longer than any process may still write for a purged job, and than an idempotency key lives.
PURGED_SECONDS = 24 * 3600


class JobStore:
    """Thread-safe.  Every method may raise StoreUnavailable.

    Args:
        max_attempts, max_retries: as MASKMILL_MAX_ATTEMPTS and MASKMILL_MAX_RETRIES.
        retry_delay_seconds: the first delay of postpone().

    clock: of Redis; the answers of frequent scripts keep it exact.
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
        self._redis = client
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._max_retries = max_retries
        self._retry_delay_seconds = retry_delay_seconds
        # Tokens of claims without an answer, by whether they may have got a suspect.
        self._unanswered: Mapping[bool, deque[str]] = {False: deque(), True: deque()}
        self._create = Script(client, "create", CreateOutcome)
        self._discard = Script(client, "discard", DiscardOutcome)
        self._claim = Script(client, "claim", ClaimOutcome)
        self._start_isolated = Script(client, "start_isolated", StartIsolatedOutcome)
        self._renew = Script(client, "renew", RenewOutcome)
        self._record_image = Script(client, "record_image", RecordImageOutcome)
        self._release = Script(client, "release", ReleaseOutcome)
        self._requeue_delayed = Script(client, "requeue_delayed", RequeueDelayedOutcome)
        self._requeue_stalled = Script(client, "requeue_stalled", RequeueStalledOutcome)
        self._check_queue = Script(client, "check_queue", CheckQueueOutcome)
        self._measure_load = Script(client, "measure_load", MeasureLoadOutcome)
        self._finish = Script(client, "finish", FinishOutcome)
        self._record_succeeded = Script(client, "record_succeeded", RecordSucceededOutcome)
        self._remove_waiter = Script(client, "remove_waiter", RemoveWaiterOutcome)
        self._purge = Script(client, "purge", PurgeOutcome)
        self._find_place = Script(client, "find_place", FindPlaceOutcome)
        self._log_stage = Script(client, "log_stage", LogStageOutcome)
        self._measure_service = Script(client, "measure_service", MeasureServiceOutcome)

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
    def claim(
        self,
        model: str,
        *,
        worker: str,
        priorities: Sequence[Priority] = tuple(Priority),
        message: TakenMessage | None = None,
        may_isolate: bool = False,
    ) -> Claim | ClaimOutcome:
        """Claim the next job of a model for a worker.

        A job that this version cannot read is released, for UNREADABLE_DELAY_SECONDS.

        Args:
            priorities: which jobs may be claimed, highest priority first.
            message: the one that woke the worker, for its first claim; then None.
            may_isolate: whether the caller can run a suspect alone.  A worker gets no second one before the first ends.
        """
        sent_at = time.monotonic()
        with self._use_token(self._unanswered[may_isolate]) as token:
            outcome, values = self._claim(
                {
                    "leases": redis_keys.LEASES,
                    "passed_over": redis_keys.passed_over(model),
                    "claim": redis_keys.claim(token),
                    "isolated": redis_keys.ISOLATED,
                    "virtual_times": redis_keys.VIRTUAL_TIMES,
                },
                worker=worker,
                token=token,
                lease_seconds=self._lease_seconds,
                queues=[queue_name(model, priority) for priority in priorities],
                bounds={queue_name(model, priority): most for priority, most in MAX_PASSED_OVER.items()},
                may_isolate=may_isolate,
                source=message.queue if message else None,
                message=message.substitute if message else None,
            )
        if outcome is ClaimOutcome.EMPTY:
            return outcome
        self.clock.observe(float(values[-1]), sent_at=sent_at)
        return self._read_claim(outcome, values)

    def _read_claim(self, outcome: ClaimOutcome, values: Sequence[Any]) -> Claim | ClaimOutcome:
        """Return the claim that claim.lua has answered with, or release a job that this version cannot read."""
        job_id, attempt, attempt_name, request, is_suspect, recovered, is_watched, now = values
        try:
            return Claim(
                JobRequest.from_json(request),
                int(attempt),
                attempt_name,
                is_late=outcome is ClaimOutcome.DEADLINE_EXCEEDED,
                is_isolated=bool(int(is_suspect)),
                is_recovered=bool(int(recovered)) or int(attempt) > 1,
                is_watched=bool(int(is_watched)),
                now=float(now),
            )
        except ValueError as error:
            # A newer gateway wrote it.  A worker of that version will read it.
            log.error("job_unreadable", job_id=job_id, reason=str(error))
            self._delay(job_id, attempt_name, seconds=UNREADABLE_DELAY_SECONDS, jitter=0.5, is_counted=False)
            return ClaimOutcome.UNREADABLE

    @contextmanager
    def _use_token(self, unanswered: deque[str]) -> Iterator[str]:
        """Yield the token of a claim: of an earlier one without an answer, which may have got a job, or a new one."""
        try:
            token = unanswered.pop()
        except IndexError:
            token = uuid4().hex
        try:
            yield token
        except BaseException:
            unanswered.append(token)
            raise

    @translate_redis_errors
    def start_isolated(self, claim: Claim) -> bool:
        """Record that a suspect runs now, alone, so that from now on a stall counts; False if its lease is lost."""
        keys = {"job": redis_keys.job(claim.request.id)}
        outcome, _ = self._start_isolated(keys, attempt_name=claim.attempt_name)
        return outcome is StartIsolatedOutcome.STARTED

    @translate_redis_errors
    def renew(self, job_id: str, attempt_name: str) -> Renewal | None:
        """Renew the lease; None if the job is not this attempt's any more (canceled, or claimed by another worker)."""
        outcome, values = self._renew(
            _lease_keys(job_id), id=job_id, attempt_name=attempt_name, lease_seconds=self._lease_seconds
        )
        return Renewal(is_watched=bool(int(values[0]))) if outcome is RenewOutcome.RENEWED else None

    @translate_redis_errors
    def log_stage(self, job_id: str, attempt_name: str, stage: str) -> None:
        """Log the stage of an attempt, for the watchers of its job."""
        self._log_stage({"job": redis_keys.job(job_id)}, id=job_id, attempt_name=attempt_name, stage=stage)

    @translate_redis_errors
    def record_image(self, job_id: str, attempt_name: str, image: ImageFacts) -> bool:
        """Record the facts of an image that a worker has read; False if the job is not this attempt's any more."""
        outcome, _ = self._record_image(
            {"job": redis_keys.job(job_id)},
            attempt_name=attempt_name,
            image=json.dumps(asdict(image)),
            pixels=image.width * image.height,
        )
        return outcome is RecordImageOutcome.RECORDED

    @translate_redis_errors
    def abandon(self, job_id: str, attempt_name: str) -> None:
        """Let the lease of a running job expire now: the job stalls, and the steward requeues it or fails it."""
        self._renew(_lease_keys(job_id), id=job_id, attempt_name=attempt_name, lease_seconds=0)

    @translate_redis_errors
    def release(self, job_id: str, attempt_name: str, *, message: str) -> ReleaseOutcome:
        """Return a running job to its place in its queue, and enqueue a message; it does not count as a stall."""
        keys = {"job": redis_keys.job(job_id)}
        outcome, _ = self._release(keys, id=job_id, attempt_name=attempt_name, message=message)
        return outcome

    @translate_redis_errors
    def postpone(self, job_id: str, attempt_name: str, *, jitter: float, is_counted: bool) -> ReleaseOutcome:
        """Release a job that cannot be claimed again before a delay; then the steward requeues it.

        The delay of a release that is not counted is RETRY_DELAY_SECONDS; each counted one doubles it, up to
        MAX_RETRY_DELAY_SECONDS.  No delay exceeds the job's deadline.

        Args:
            jitter: in [0, 1), by chance: it chooses a part of the delay, between half and all of it.
            is_counted: whether the job itself may be the cause.

        Returns:
            EXHAUSTED if it was released MASKMILL_MAX_RETRIES times before: then the caller has to fail it.
        """
        return self._delay(
            job_id, attempt_name, seconds=self._retry_delay_seconds, jitter=jitter, is_counted=is_counted
        )

    def _delay(
        self, job_id: str, attempt_name: str, *, seconds: float, jitter: float, is_counted: bool
    ) -> ReleaseOutcome:
        outcome, _ = self._release(
            {"job": redis_keys.job(job_id)},
            id=job_id,
            attempt_name=attempt_name,
            delay_seconds=seconds,
            max_delay_seconds=MAX_RETRY_DELAY_SECONDS,
            jitter=jitter,
            max_retries=self._max_retries if is_counted else None,
        )
        return outcome

    @translate_redis_errors
    def requeue_delayed(self, job_id: str, queue: str, *, message: str) -> RequeueDelayedOutcome:
        """Return a postponed job to its place in its queue once its delay is over, and enqueue a message."""
        keys = {"job": redis_keys.job(job_id), "delayed": redis_keys.delayed_jobs(queue)}
        outcome, _ = self._requeue_delayed(keys, id=job_id, message=message)
        return outcome

    @translate_redis_errors
    def requeue_stalled(self, job_id: str, *, message: str) -> RequeueStalledOutcome:
        """Return a job whose lease has expired to its place in its queue, and enqueue a message."""
        keys = _lease_keys(job_id)
        outcome, _ = self._requeue_stalled(keys, id=job_id, max_attempts=self._max_attempts, message=message)
        return outcome

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
            queues=_list_queues(request.model),
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
    def find_place(self, job_id: str) -> QueuePlace | None:
        """Return where a queued job stands; None if it is not queued, or cannot be claimed yet."""
        outcome, values = self._find_place({}, id=job_id)
        return read_place(values) if outcome is FindPlaceOutcome.PLACED else None

    @translate_redis_errors
    def find_client_id(self, tenant: str, client_id: str) -> str | None:
        """Return the id of the job that a tenant has submitted under an id of its own; None if there is none."""
        return self._redis.hget(redis_keys.client_id(tenant, client_id), "id")

    @translate_redis_errors
    def is_known(self, job_id: str) -> bool:
        return bool(self._redis.exists(redis_keys.job(job_id)))

    @translate_redis_errors
    def list_queues(self) -> Sequence[str]:
        return sorted(self._redis.smembers(redis_keys.QUEUES))

    @translate_redis_errors
    def backlog(self, queue: str) -> int:
        """Return how many jobs are queued in a queue, whether or not they can be claimed yet."""
        with self._redis.pipeline(transaction=False) as batch:
            for key in (redis_keys.queued_jobs, redis_keys.suspected_jobs, redis_keys.delayed_jobs):
                batch.zcard(key(queue))
            return sum(batch.execute())

    @translate_redis_errors
    def check_queue(
        self,
        queue: str,
        tenant: str,
        limits: QueueLimits,
        *,
        image_bytes: int = 0,
    ) -> None:
        """Check the bounds of a queue before anything is stored; create() checks them again.

        Raises:
            QueueFull: one of them is reached.
        """
        outcome, _ = self._check_queue(
            {"unfinished": redis_keys.unfinished_jobs(queue, tenant)},
            queue=queue,
            tenant=tenant,
            bytes=image_bytes,
            pixels=0,
            **limit_arguments(limits),
        )
        if outcome is not CheckQueueOutcome.FREE:
            raise build_refusal(CreateOutcome(outcome), limits, self.clock.now())

    @translate_redis_errors
    def measure_load(self, model: str) -> LoadSnapshot:
        """Return the load of a model's workers, in one round trip: it is part of the latency of a request."""
        sent_at = time.monotonic()
        _, (completed, running, used_memory, max_memory, now, *queued) = self._measure_load(
            {"leases": redis_keys.LEASES, "completed": redis_keys.COMPLETED},
            model=model,
            queues=_list_queues(model),
        )
        self.clock.observe(float(now), sent_at=sent_at)
        counts = {priority: int(count) for priority, count in zip(Priority, queued, strict=True)}
        return LoadSnapshot(counts, int(running), int(completed), int(used_memory), int(max_memory))

    @translate_redis_errors
    def measure_service(self, model: str) -> ServiceTimes:
        """Return what is known of the time that jobs of a model take."""
        keys = {"ended_work": redis_keys.ended_work(model), "leases": redis_keys.LEASES}
        sent_at = time.monotonic()
        _, (ended, running, now) = self._measure_service(keys)
        self.clock.observe(float(now), sent_at=sent_at)
        jobs = [EndedJob.from_json(text) for text in reversed(ended)]
        return ServiceTimes.measure(jobs, float(now), running=int(running))

    @translate_redis_errors
    def get_queue(self, job_id: str) -> str | None:
        """Return the queue of a job, also of one that this version cannot read; None if Redis has no record of it."""
        return self._redis.hget(redis_keys.job(job_id), "queue")

    @translate_redis_errors
    def running_count(self) -> int:
        return int(self._redis.zcard(redis_keys.LEASES))


def open_job_store(client: RedisClient, settings: Settings) -> JobStore:
    """Return the job store of the settings; nothing is sent yet."""
    return JobStore(
        client,
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        max_retries=settings.max_retries,
    )


def _list_queues(model: str) -> list[str]:
    return [queue_name(model, priority) for priority in Priority]


def _lease_keys(job_id: str) -> dict[str, str]:
    return {"job": redis_keys.job(job_id), "leases": redis_keys.LEASES}
