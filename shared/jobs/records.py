"""The record of a job in Redis, a hash, read as a Job.  shared/README.md has its fields; only scripts write it."""

import json
from collections.abc import Mapping
from dataclasses import replace

import structlog

from shared.jobs.model import Failure, ImageFacts, Job, JobRequest, JobState

log = structlog.get_logger()


def read_job(job_id: str, record: Mapping[str, str]) -> Job | None:
    """Return a job, or None if this version cannot read its record."""
    try:
        return build_job(record)
    except ValueError as error:
        log.error("job_unreadable", job_id=job_id, reason=str(error))
        return None


def build_job(record: Mapping[str, str]) -> Job:
    return Job(
        request=_build_request(record),
        state=JobState(record["state"]),
        attempt=int(record["attempt"]),
        attempt_name=record.get("attempt_name", ""),
        stalls=int(record["stalls"]),
        worker=record.get("worker"),
        started_at=float(record["started_at"]) if "started_at" in record else None,
        ended_at=float(record["ended_at"]) if "ended_at" in record else None,
        kept_until=float(record["kept_until"]) if "kept_until" in record else None,
        failure=Failure(**json.loads(record["failure"])) if record.get("failure") else None,
        timings_ms=json.loads(record.get("timings") or "{}"),
    )


def _build_request(record: Mapping[str, str]) -> JobRequest:
    """Return the request, with the facts of an image that a worker has read since."""
    request = JobRequest.from_json(record["request"])
    return replace(request, image=ImageFacts(**json.loads(record["image"]))) if record.get("image") else request
