"""The errors of submissions that create.lua and check_queue.lua refuse."""

import math

from shared.errors import (
    ClientIdTaken,
    IdempotencyConflict,
    MaskmillError,
    PayloadsFull,
    QueueFull,
    QuotaExceeded,
)
from shared.jobs.outcomes import CreateOutcome
from shared.jobs.script import DAY_SECONDS
from shared.jobs.store_values import QueueLimits

REFUSALS = frozenset(CreateOutcome) - {
    CreateOutcome.CREATED,
    CreateOutcome.REPEATED,
    CreateOutcome.COALESCED,
    CreateOutcome.CACHED,
    CreateOutcome.PURGED,
}


def build_refusal(
    outcome: CreateOutcome, limits: QueueLimits, now: float, *, client_id: str | None = None
) -> MaskmillError:
    """Return the error of an outcome that leaves a submission without a job.

    Args:
        client_id: the caller's own id of the job, if it has one.
        now: unix seconds by the clock of Redis.
    """
    match outcome:
        case CreateOutcome.FULL:
            return QueueFull("Too many jobs are waiting; try again when some of them are done.", limit=limits.jobs)
        case CreateOutcome.TENANT_FULL:
            return QueueFull(
                "Too many of your jobs are waiting; submit more when some of them are done.",
                limit=limits.jobs_per_tenant,
            )
        case CreateOutcome.QUOTA_BYTES:
            return _refuse_bytes(limits.bytes_per_tenant)
        case CreateOutcome.QUOTA_PIXELS:
            return _refuse_pixels(limits.pixels_per_day, now)
        case CreateOutcome.PAYLOADS_FULL:
            return PayloadsFull("Too many images of synchronous requests are waiting; try again in a few seconds.")
        case CreateOutcome.TENANT_PAYLOADS_FULL:
            return PayloadsFull(
                "Too many images of your synchronous requests are waiting; "
                "send more when some of them are answered, or submit them as jobs, at /v1/jobs."
            )
    if client_id is not None:
        return ClientIdTaken(f"Your job {client_id} was submitted with another image or other options.")
    return IdempotencyConflict("This Idempotency-Key was used for another image or other parameters.")


def _refuse_bytes(limit: int) -> QuotaExceeded:
    return QuotaExceeded(
        "The images of your waiting jobs have too many bytes; submit more when some of the jobs are done.",
        quota="bytes",
        limit=limit,
        window_seconds=QuotaExceeded.retry_after_seconds or 1,
    )


def _refuse_pixels(limit: int, now: float) -> QuotaExceeded:
    return QuotaExceeded(
        "You have submitted as many pixels as you may on a day; submit more tomorrow, in UTC.",
        quota="pixels",
        limit=limit,
        window_seconds=DAY_SECONDS,
        retry_after_seconds=math.ceil(DAY_SECONDS - now % DAY_SECONDS),
    )
