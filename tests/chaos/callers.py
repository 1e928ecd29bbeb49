"""The callers of a trial: each submits a job, waits for its end and fetches its result."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from shared.jobs.model import JobState
from shared.rfc3339 import parse_timestamp
from tests.chaos.client import Client, GaveUp
from tests.chaos.records import NEVER, JobRecord
from tests.chaos.workload import PlannedJob


def run_job(
    planned: PlannedJob, ports: Sequence[int], *, seconds: float, on_accepted: Callable[[], object]
) -> JobRecord:
    """Run a job to its end within so many seconds; the record says how far it came.

    The gateways are tried in turn, and jobs of even and odd numbers begin with different ones.
    """
    first = planned.number % len(ports)
    client = Client([*ports[first:], *ports[:first]], time.monotonic() + seconds)
    record = JobRecord(planned)
    try:
        record = replace(record, job_id=client.submit(planned), accepted_at=time.time())
        on_accepted()
        record = add_end(record, client.wait(record.job_id), now=time.time())
        if record.state is JobState.SUCCEEDED:
            record = replace(record, outcome=client.fetch(record.job_id, planned.variant))
    except GaveUp as error:
        client.faults.append(f"no answer in time: {error}")
    return replace(record, faults=tuple(client.faults), unknown_seconds=client.unknown_seconds)


def add_end(record: JobRecord, job: dict[str, Any], *, now: float) -> JobRecord:
    """Return the record with the last state of a job, which is empty if the service did not know it."""
    if not job:
        return record
    state = JobState(job["state"])
    return replace(
        record,
        state=state,
        seen_at=now if state.is_final else NEVER,
        ended_at=parse_timestamp(job["ended_at"]) if job["ended_at"] else NEVER,
        error_type=job["error_type"] or "",
        attempt=job["attempt"],
    )
