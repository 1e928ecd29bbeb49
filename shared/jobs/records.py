"""The record of a job in Redis, a hash, read as a Job.  shared/README.md has its fields; only scripts write it."""

import json
from collections.abc import Mapping

import structlog

from shared.jobs.model import Failure, Job, JobRequest, JobState

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
        request=JobRequest.from_json(record["request"]),
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
