"""The attempts of jobs: a worker claims a job, renews its lease and gives it back; the steward requeues it.

The end of a job is in shared/jobs/store.py.
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
from shared.jobs.messages import queue_name
from shared.jobs.model import MAX_PASSED_OVER, ImageFacts, JobRequest, Priority
from shared.jobs.outcomes import (
    ClaimOutcome,
    LogStageOutcome,
    RecordImageOutcome,
    ReleaseOutcome,
    RenewOutcome,
    RequeueDelayedOutcome,
    RequeueStalledOutcome,
    StartIsolatedOutcome,
)
from shared.jobs.script import Script
from shared.jobs.store_values import UNBOUNDED, Claim, Renewal, TakenMessage
from shared.redis_client import RedisClient, translate_redis_errors
from shared.redis_clock import RedisClock

log = structlog.get_logger()

UNREADABLE_DELAY_SECONDS = 10.0
# With the default of MASKMILL_MAX_RETRIES a job is tried for about an hour.
RETRY_DELAY_SECONDS = 2.0
MAX_RETRY_DELAY_SECONDS = 300.0


class JobAttempts:
    """Thread-safe.  Every method may raise StoreUnavailable.

    Args:
        max_attempts, max_retries: as MASKMILL_MAX_ATTEMPTS and MASKMILL_MAX_RETRIES.
        retry_delay_seconds: the first delay of postpone().
    """

    def __init__(
        self,
        client: RedisClient,
        clock: RedisClock,
        *,
        lease_seconds: float,
        max_attempts: int,
        max_retries: int = UNBOUNDED,
        retry_delay_seconds: float = RETRY_DELAY_SECONDS,
    ) -> None:
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._max_retries = max_retries
        self._retry_delay_seconds = retry_delay_seconds
        # Tokens of claims without an answer, by whether they may have got a suspect.
        self._unanswered: Mapping[bool, deque[str]] = {False: deque(), True: deque()}
        self._claim = Script(client, "claim", ClaimOutcome)
        self._start_isolated = Script(client, "start_isolated", StartIsolatedOutcome)
        self._renew = Script(client, "renew", RenewOutcome)
        self._log_stage = Script(client, "log_stage", LogStageOutcome)
        self._record_image = Script(client, "record_image", RecordImageOutcome)
        self._release = Script(client, "release", ReleaseOutcome)
        self._requeue_delayed = Script(client, "requeue_delayed", RequeueDelayedOutcome)
        self._requeue_stalled = Script(client, "requeue_stalled", RequeueStalledOutcome)

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
        self._clock.observe(float(values[-1]), sent_at=sent_at)
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
    def postpone(
        self, job_id: str, attempt_name: str, *, jitter: float, is_counted: bool, seconds: float | None = None
    ) -> ReleaseOutcome:
        """Release a job that cannot be claimed again before a delay; then the steward requeues it.

        The delay of a release that is not counted is RETRY_DELAY_SECONDS; each counted one doubles it, up to
        MAX_RETRY_DELAY_SECONDS.  No delay exceeds the job's deadline.

        Args:
            jitter: in [0, 1), by chance: it chooses a part of the delay, between half and all of it.
            is_counted: whether the job itself may be the cause.
            seconds: the first delay, if it is another one.

        Returns:
            EXHAUSTED if it was released MASKMILL_MAX_RETRIES times before: then the caller has to fail it.
        """
        return self._delay(
            job_id,
            attempt_name,
            seconds=self._retry_delay_seconds if seconds is None else seconds,
            jitter=jitter,
            is_counted=is_counted,
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


def _lease_keys(job_id: str) -> dict[str, str]:
    return {"job": redis_keys.job(job_id), "leases": redis_keys.LEASES}
