"""The keys and arguments of create.lua."""

from typing import Any

from shared import redis_keys
from shared.jobs.fairness import compute_cost
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest
from shared.jobs.store_values import DedupKey, InputPayload, QueueLimits


def submission_keys(request: JobRequest) -> dict[str, str]:
    return {
        "job": redis_keys.job(request.id),
        "idempotency": _build_idempotency_key(request),
        "tenant_jobs": redis_keys.tenant_jobs(request.tenant),
    }


def _build_idempotency_key(request: JobRequest) -> str:
    """Return the key that stands for a job in place of its id: that of the caller's own id, or an idempotency key."""
    if request.client_id is not None:
        return redis_keys.client_id(request.tenant, request.client_id)
    return redis_keys.idempotency(request.idempotency.digest if request.idempotency else "")


def creation_keys(request: JobRequest, dedup: DedupKey | None) -> dict[str, str]:
    return {
        "tenants": redis_keys.TENANTS,
        "queues": redis_keys.QUEUES,
        "dedup": redis_keys.dedup(dedup.key if dedup else ""),
        "payloads": redis_keys.PAYLOADS,
        "virtual_times": redis_keys.VIRTUAL_TIMES,
        **account_keys(request),
    }


def account_keys(request: JobRequest) -> dict[str, str]:
    """Return the keys of what a job occupies until it ends."""
    return {
        "unfinished": redis_keys.unfinished_jobs(job_queue(request), request.tenant),
        "deadlines": redis_keys.DEADLINES,
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
        # A caller's own id lives as long as the record of its job.
        "idempotency_ms": int(1000 * idempotency.expires_at) if idempotency and request.client_id is None else None,
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


def limit_arguments(limits: QueueLimits) -> dict[str, Any]:
    return {
        "max_queued": limits.jobs,
        "max_queued_per_tenant": limits.jobs_per_tenant,
        "quota_bytes": limits.bytes_per_tenant,
        "quota_pixels": limits.pixels_per_day,
    }


def image_arguments(request: JobRequest) -> dict[str, Any]:
    """Return what the image of a job counts for its tenant, and in the order of its queue."""
    # What no worker has read yet counts nothing.
    image = request.image
    return {
        "tenant": request.tenant,
        "bytes": image.bytes if image else 0,
        "pixels": image.width * image.height if image else 0,
        "cost": compute_cost(image),
    }
