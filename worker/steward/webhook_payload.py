"""The messages of webhooks: what a job is and how it ended, and links to its results; no masks."""

from typing import Any

import orjson

from shared.formats.registry import get_format
from shared.jobs.model import JobState
from shared.rfc3339 import format_timestamp
from worker.steward.job_ends import JobEnd


def build_job_message(event: str, end: JobEnd, *, ended_at: float, base_url: str) -> bytes:
    """Return the JSON of a message about a job.

    Args:
        ended_at: unix seconds.
        base_url: what the links begin with, without a slash at its end; empty for paths.
    """
    request = end.request
    data = {
        "id": request.id,
        "client_id": request.client_id,
        "state": end.state,
        "model": request.model,
        "formats": request.formats,
        "metadata": request.metadata,
        "created_at": format_timestamp(request.created_at),
        "started_at": None if end.started_at is None else format_timestamp(end.started_at),
        "ended_at": format_timestamp(ended_at),
        "attempt": end.attempt,
        "timings_ms": end.timings_ms,
        "error": end.failure.message if end.failure else None,
        "error_type": end.failure.code if end.failure else None,
        "recut_of": request.recut_of,
        "links": build_links(end, base_url),
    }
    return build_message(event, data, occurred_at=ended_at)


def build_links(end: JobEnd, base_url: str) -> dict[str, str]:
    """Return the addresses of a job, and of what it has made."""
    job = f"{base_url}/v1/jobs/{end.request.id}"
    if end.state is not JobState.SUCCEEDED:
        return {"self": job}
    files = {name: f"{job}/{get_format(name).file}" for name in end.request.formats}
    return {"self": job, "result": f"{job}/result", **files}


def build_message(event: str, data: dict[str, Any], *, occurred_at: float) -> bytes:
    """Return the JSON of a message in the form of Standard Webhooks."""
    return orjson.dumps({"type": event, "timestamp": format_timestamp(occurred_at), "data": data})
