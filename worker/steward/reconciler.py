"""What the steward does: every job that was lost somewhere is found, and taken up again or ended.  No Celery here.

Each of these may run at any time, twice at once, and die half-way: the next run goes on where this one stopped.
"""

import time
from dataclasses import dataclass

import structlog

from shared.broker.queues import JobQueue
from shared.errors import AttemptsExhausted, DeadlineExceeded, MaskmillError, UnknownJob
from shared.jobs.completion import complete_job, failed, read_result, sync_job_store
from shared.jobs.ids import floor_id, is_job_id
from shared.jobs.model import Failure, JobRequest, JobState
from shared.jobs.result import JobResult
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket, NoSuchObject
from worker.steward.metrics import StewardMetrics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StewardServices:
    """What the steward looks after, built once by worker/steward/app.py.

    A submission puts its input first and its record right after, so only an input older than `inbox_grace_seconds` can
    belong to a job that was lost.
    """

    jobs: JobStore
    bucket: Bucket
    queue: JobQueue
    metrics: StewardMetrics
    orphaned_after_seconds: float
    result_ttl_seconds: int
    inbox_grace_seconds: float


def sweep(services: StewardServices) -> None:
    """Take up the jobs whose worker fell silent, and those that are queued but in nobody's hands.

    Raises:
        Unavailable: a store did not answer; what was not reached is found again.
    """
    for job_id in services.jobs.lapsed():
        _take_from_lost_worker(job_id, services)
    for name in services.jobs.queues():
        waiting = services.queue.waiting(name)
        for job_id in services.jobs.forgotten(
            name, grace_seconds=services.orphaned_after_seconds, waiting_messages=waiting
        ):
            _take_up_forgotten(job_id, services)


def recover(services: StewardServices) -> None:
    """Rebuild the jobs that Redis knows nothing of any more from their inputs in the bucket.

    Raises:
        Unavailable: a store did not answer; what was not reached is found again.
    """
    limit = time.time() - services.inbox_grace_seconds
    for found in services.bucket.listing("inbox/"):
        job_id = found.key.removeprefix("inbox/")
        if found.modified_at < limit and is_job_id(job_id):
            _look_at_input(job_id, found.key, services)


def expire(services: StewardServices) -> None:
    """Delete the results that have been kept long enough.

    Job ids sort by time and listings are in order, so this stops at the first that is young.
    """
    limit = time.time() - services.result_ttl_seconds
    floor = floor_id(limit)
    services.jobs.unlist_before(floor)
    old: list[str] = []
    for found in services.bucket.listing("results/"):
        job_id = found.key.split("/")[1]
        if job_id >= floor:
            break
        # A job that waited long may have ended late: its objects count from when they were stored.
        if found.modified_at < limit:
            old.append(found.key)
    if old:
        services.bucket.delete(old)
        log.info("results_expired", objects=len(old))
        services.metrics.mended("expired", len({key.split("/")[1] for key in old}))


def _take_from_lost_worker(job_id: str, services: StewardServices) -> None:
    ended = read_result(job_id, bucket=services.bucket)
    if ended is not None:
        # Its worker died between the bucket and the job store: the job is done, nobody need do it again.
        sync_job_store(ended, jobs=services.jobs, bucket=services.bucket)
        _note("followed", job_id, services)
        return
    outcome = services.jobs.requeue_stalled(job_id)
    if outcome == "queued":
        services.queue.publish(services.jobs.get(job_id).request)
        _note("lapsed", job_id, services)
    elif outcome == "exhausted":
        job = services.jobs.get(job_id)
        reason = AttemptsExhausted(
            f"The job was given up after {job.lapses + 1} workers were lost with it; the last was {job.worker}."
        )
        complete_job(failed(job.request, reason, attempt=job.attempt), jobs=services.jobs, bucket=services.bucket)
        _note("exhausted", job_id, services)


def _take_up_forgotten(job_id: str, services: StewardServices) -> None:
    try:
        request = services.jobs.get(job_id).request
    except UnknownJob:
        return
    if request.deadline_at is not None and request.deadline_at < time.time():
        late = Failure(DeadlineExceeded.code, "There was no result before the deadline.")
        complete_job(JobResult(request, JobState.EXPIRED, failure=late), jobs=services.jobs, bucket=services.bucket)
        _note("late", job_id, services)
        return
    services.queue.publish(request)
    _note("forgotten", job_id, services)


def _look_at_input(job_id: str, key: str, services: StewardServices) -> None:
    try:
        if not services.jobs.get(job_id).state.is_final:
            return
        # Ended, but the input could not be deleted then.
        services.bucket.delete([key])
    except UnknownJob:
        _rebuild(job_id, key, services)


def _rebuild(job_id: str, key: str, services: StewardServices) -> None:
    ended = read_result(job_id, bucket=services.bucket)
    if ended is not None:
        services.bucket.delete([key])
        return
    try:
        request = JobRequest.from_json(services.bucket.metadata(key)["request"])
    except NoSuchObject:
        return
    except (KeyError, ValueError, MaskmillError) as error:
        log.error("input_without_request", key=key, reason=repr(error))
        return
    services.jobs.create(request)
    services.queue.publish(request)
    _note("rebuilt", job_id, services)


def _note(what: str, job_id: str, services: StewardServices) -> None:
    log.info("job_looked_after", what=what, job_id=job_id)
    services.metrics.mended(what)
