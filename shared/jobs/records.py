"""The record of a job in Redis, a hash, read as a Job.  shared/README.md has its fields; only scripts write it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from shared.jobs.model import Failure, ImageFacts, Job, JobRequest, JobState, QueuePlace

log = structlog.get_logger()

# What a Job is built from; the state tells whether there is a record.
FIELDS = (
    *("state", "request", "attempt", "attempt_name", "stalls", "worker"),
    *("started_at", "ended_at", "kept_until", "failure", "timings", "image"),
)


def read_job(job_id: str, record: Mapping[str, str]) -> Job | None:
    """Return a job, or None if this version cannot read its record."""
    try:
        return build_job(record)
    except ValueError as error:
        log.error("job_unreadable", job_id=job_id, reason=str(error))
        return None


def build_job(record: Mapping[str, str]) -> Job:
    """Return the job of a record, in which fields may be missing or empty."""
    return Job(
        request=_build_request(record),
        state=JobState(record["state"]),
        attempt=int(record["attempt"]),
        attempt_name=record.get("attempt_name") or "",
        stalls=int(record["stalls"]),
        worker=record.get("worker") or None,
        started_at=read_time(record.get("started_at")),
        ended_at=read_time(record.get("ended_at")),
        kept_until=read_time(record.get("kept_until")),
        failure=read_failure(record.get("failure")),
        timings_ms=read_timings(record.get("timings")),
    )


def read_place(values: Sequence[str]) -> QueuePlace | None:
    """Return the place of a queued job, from what the scripts return of it: two numbers, or nothing."""
    return QueuePlace(*map(int, values)) if values else None


def read_time(text: str | None) -> float | None:
    return float(text) if text else None


def read_failure(text: str | None) -> Failure | None:
    return Failure(**json.loads(text)) if text else None


def read_timings(text: str | None) -> Mapping[str, float]:
    timings: Mapping[str, float] = json.loads(text) if text else {}
    return timings


def _build_request(record: Mapping[str, str]) -> JobRequest:
    """Return the request, with the facts of an image that a worker has read since."""
    request = JobRequest.from_json(record["request"])
    return replace(request, image=ImageFacts(**json.loads(record["image"]))) if record.get("image") else request
