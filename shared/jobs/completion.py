"""Completion: the bucket decides the final state of a job, and the job store is updated after it.

`result.json` is put only if there is none, so of all parties that complete a job (its worker, a duplicate attempt, the
steward, a cancellation) the first one decides, and the outcome is known even after Redis has lost its data.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from shared.errors import StorageUnavailable, Unavailable
from shared.jobs.inputs import EndedInput
from shared.jobs.model import Job, JobState
from shared.jobs.request_record import list_inbox_keys
from shared.jobs.result import JobResult
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import result_key


class EndedInputs(Protocol):
    """Takes inputs of final jobs out of the inbox, now or soon; implemented by InputMover, and by InputMoves."""

    def move(self, inputs: Sequence[EndedInput], /) -> None: ...


def complete_job(result: JobResult, *, jobs: JobStore, bucket: Bucket, inputs: EndedInputs | None = None) -> JobResult:
    """Complete a job, unless it is complete already.

    Safe to repeat, from anywhere: if the bucket holds another result, the job store is synced with that one.

    Args:
        inputs: moves the input; without it, only that of a canceled job is deleted, and the steward moves any other.

    Returns:
        The result that is stored: `result`, or the one that was stored first.

    Raises:
        Unavailable: the bucket or Redis did not answer; repeat the call, or leave it to the steward.
    """
    final = store_result(result, bucket=bucket)
    sync_job_store(final, jobs=jobs, inputs=inputs)
    if inputs is None and final.state is JobState.CANCELED and final.request.input.is_durable:
        with suppress(Unavailable):
            bucket.delete(list_inbox_keys(final.request.id))
    return final


def store_result(result: JobResult, *, bucket: Bucket) -> JobResult:
    """Store a result in the bucket, unless there is one; return the one that is stored, which counts.

    Safe to repeat: after a call without an answer, the next one tells whether its result was stored.

    Raises:
        StorageUnavailable: the bucket did not answer, or the result was deleted meanwhile.
    """
    key = result_key(result.request.id)
    if bucket.put_first(key, result.to_json(), content_type="application/json"):
        return result
    try:
        return JobResult.from_json(bucket.get(key))
    except NoSuchObject as error:
        # It was purged meanwhile; or S3 refused the put because of another one, which has failed since.
        raise StorageUnavailable("The result of the job was deleted while it was read.") from error


def sync_job_store(result: JobResult, *, jobs: JobStore, inputs: EndedInputs | None) -> None:
    """Copy a result from the bucket to the job store, and move the input if it is an object."""
    complete_in_store(result, jobs=jobs)
    if inputs is None or not result.request.input.is_durable:
        return
    # Last: while the input is in the inbox, the steward finds a job whose result is missing in Redis.
    with suppress(Unavailable):
        inputs.move([EndedInput.of(result)])


def complete_in_store(result: JobResult, *, jobs: JobStore) -> None:
    """Complete a job in the job store alone: for one whose input is not durable, while the bucket is unavailable."""
    jobs.finish(
        result.request,
        result.state,
        failure=result.failure,
        timings_ms=result.timings_ms,
        batch_size=result.batch_size,
    )


def read_result(job_id: str, *, bucket: Bucket) -> JobResult | None:
    """Return the result of a job, or None if it is not complete."""
    try:
        return JobResult.from_json(bucket.get(result_key(job_id)))
    except NoSuchObject:
        return None


def read_ended_job(job_id: str, *, bucket: Bucket) -> Job | None:
    """Return a job as its result shows it, for one of which Redis has no record; None if it is not complete.

    Its end is when its result was stored, by the clock of the object store.
    """
    try:
        document, stored_at = bucket.get_dated(result_key(job_id))
    except NoSuchObject:
        return None
    result = JobResult.from_json(document)
    return Job(
        result.request,
        result.state,
        attempt=result.attempt,
        ended_at=stored_at,
        failure=result.failure,
        timings_ms=result.timings_ms,
    )
