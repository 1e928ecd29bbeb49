"""The keys and arguments of create.lua, and the errors of its refusals."""

from typing import Any

from shared import redis_keys
from shared.errors import IdempotencyConflict, MaskmillError, PayloadsFull, QueueFull
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest
from shared.jobs.outcomes import CreateOutcome
from shared.jobs.store_values import DedupKey, InputPayload


def submission_keys(request: JobRequest) -> dict[str, str]:
    return {
        "job": redis_keys.job(request.id),
        "idempotency": redis_keys.idempotency(request.idempotency.digest if request.idempotency else ""),
        "tenant_jobs": redis_keys.tenant_jobs(request.tenant),
    }


def creation_keys(request: JobRequest, dedup: DedupKey | None) -> dict[str, str]:
    return {
        "tenants": redis_keys.TENANTS,
        "queues": redis_keys.QUEUES,
        "dedup": redis_keys.dedup(dedup.key if dedup else ""),
        "payloads": redis_keys.PAYLOADS,
        **account_keys(request),
    }


def account_keys(request: JobRequest) -> dict[str, str]:
    """Return the keys of what a job occupies until it ends."""
    return {
        "unfinished": redis_keys.unfinished_jobs(job_queue(request), request.tenant),
        "input": redis_keys.input_payload(request.id),
        "purged": redis_keys.purge_mark(request.id),
    }


def payload_entry(request: JobRequest) -> str | None:
    """Return the entry of a job's payload in mm:payloads; None if its input is not a payload."""
    if request.input.is_durable:
        return None
    return f"{request.require_image().bytes}:{request.tenant}:{request.id}"


def submission_arguments(request: JobRequest, dedup: DedupKey | None) -> dict[str, Any]:
    """Return the optional arguments of create.lua; absent ones are None."""
    idempotency = request.idempotency
    return {
        "deadline_at": request.deadline_at,
        "listed_tenant": request.tenant if request.retention.is_listed else None,
        "fingerprint": idempotency.fingerprint if idempotency else None,
        "idempotency_ms": int(1000 * idempotency.expires_at) if idempotency else None,
        "dedup_seconds": dedup.seconds if dedup else None,
        "reuse": dedup.reuse if dedup else None,
    }


def payload_arguments(request: JobRequest, payload: InputPayload) -> dict[str, Any]:
    return {
        "input_ms": int(1000 * payload.seconds),
        "payload_entry": payload_entry(request),
        "max_payload_bytes": payload.max_bytes,
        "max_payload_bytes_per_tenant": payload.max_bytes_per_tenant,
    }


REFUSALS = frozenset(CreateOutcome) - {
    CreateOutcome.CREATED,
    CreateOutcome.REPEATED,
    CreateOutcome.COALESCED,
    CreateOutcome.CACHED,
    CreateOutcome.PURGED,
}


def build_refusal(outcome: CreateOutcome, max_queued: int, max_queued_per_tenant: int) -> MaskmillError:
    """Return the error of an outcome that leaves a submission without a job."""
    match outcome:
        case CreateOutcome.FULL:
            return QueueFull("Too many jobs are waiting; try again when some of them are done.", limit=max_queued)
        case CreateOutcome.TENANT_FULL:
            return QueueFull(
                "Too many of your jobs are waiting; submit more when some of them are done.",
                limit=max_queued_per_tenant,
            )
        case CreateOutcome.PAYLOADS_FULL:
            return PayloadsFull("Too many images of synchronous requests are waiting; try again in a few seconds.")
        case CreateOutcome.TENANT_PAYLOADS_FULL:
            return PayloadsFull(
                "Too many images of your synchronous requests are waiting; "
                "send more when some of them are answered, or submit them as jobs, at /v1/jobs."
            )
    return IdempotencyConflict("This Idempotency-Key was used for another image or other parameters.")
