"""What the steward does: every job that was lost somewhere is found, and taken up again or ended.  No Celery here.

Each of these may run at any time, twice at once, and die half-way: the next run goes on where this one stopped.
"""

import time
from dataclasses import dataclass

import structlog

from shared.endings import end_job, failed, follow_bucket, read_end
from shared.errors import AttemptsExhausted, DeadlinePassed, MaskmillError, UnknownJob
from shared.job_ids import floor_id, is_job_id
from shared.job_queue import JobQueue
from shared.job_store import JobStore
from shared.jobs import Failure, JobRequest, JobState
from shared.results import JobResult
from shared.storage import Bucket, NoSuchObject
from worker.steward_metrics import StewardMetrics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Household:
    """What the steward looks after, built once by worker/steward.py.

    A submission puts its input first and its record right after, so only an input older than `inbox_grace_seconds` can
    belong to a job that was lost.
    """

    jobs: JobStore
    bucket: Bucket
    queue: JobQueue
    metrics: StewardMetrics
    forgotten_after_seconds: float
    result_ttl_seconds: int
    inbox_grace_seconds: float


def sweep(house: Household) -> None:
    """Take up the jobs whose worker fell silent, and those that are queued but in nobody's hands.

    Raises:
        Unavailable: a store did not answer; what was not reached is found again.
    """
    for job_id in house.jobs.lapsed():
        _take_from_lost_worker(job_id, house)
    for name in house.jobs.queues():
        waiting = house.queue.waiting(name)
        for job_id in house.jobs.forgotten(name, grace_seconds=house.forgotten_after_seconds, waiting_messages=waiting):
            _take_up_forgotten(job_id, house)


def recover(house: Household) -> None:
    """Rebuild the jobs that Redis knows nothing of any more from their inputs in the bucket.

    Raises:
        Unavailable: a store did not answer; what was not reached is found again.
    """
    limit = time.time() - house.inbox_grace_seconds
    for found in house.bucket.listing("inbox/"):
        job_id = found.key.removeprefix("inbox/")
        if found.modified_at < limit and is_job_id(job_id):
            _look_at_input(job_id, found.key, house)


def expire(house: Household) -> None:
    """Delete the results that have been kept long enough.

    Job ids sort by time and listings are in order, so this stops at the first that is young.
    """
    limit = time.time() - house.result_ttl_seconds
    floor = floor_id(limit)
    house.jobs.unlist_before(floor)
    old: list[str] = []
    for found in house.bucket.listing("results/"):
        job_id = found.key.split("/")[1]
        if job_id >= floor:
            break
        # A job that waited long may have ended late: its objects count from when they were stored.
        if found.modified_at < limit:
            old.append(found.key)
    if old:
        house.bucket.delete(old)
        log.info("results_expired", objects=len(old))
        house.metrics.mended("expired", len({key.split("/")[1] for key in old}))


def _take_from_lost_worker(job_id: str, house: Household) -> None:
    ended = read_end(job_id, bucket=house.bucket)
    if ended is not None:
        # Its worker died between the bucket and the job store: the job is done, nobody need do it again.
        follow_bucket(ended, jobs=house.jobs, bucket=house.bucket)
        _note("followed", job_id, house)
        return
    outcome = house.jobs.requeue_lapsed(job_id)
    if outcome == "queued":
        house.queue.publish(house.jobs.get(job_id).request)
        _note("lapsed", job_id, house)
    elif outcome == "exhausted":
        job = house.jobs.get(job_id)
        reason = AttemptsExhausted(
            f"The job was given up after {job.lapses + 1} workers were lost with it; the last was {job.worker}."
        )
        end_job(failed(job.request, reason, attempt=job.attempt), jobs=house.jobs, bucket=house.bucket)
        _note("exhausted", job_id, house)


def _take_up_forgotten(job_id: str, house: Household) -> None:
    try:
        request = house.jobs.get(job_id).request
    except UnknownJob:
        return
    if request.deadline_at is not None and request.deadline_at < time.time():
        late = Failure(DeadlinePassed.code, "There was no result before the deadline.")
        end_job(JobResult(request, JobState.EXPIRED, failure=late), jobs=house.jobs, bucket=house.bucket)
        _note("late", job_id, house)
        return
    house.queue.publish(request)
    _note("forgotten", job_id, house)


def _look_at_input(job_id: str, key: str, house: Household) -> None:
    try:
        if not house.jobs.get(job_id).state.is_final:
            return
        # Ended, but the input could not be deleted then.
        house.bucket.delete([key])
    except UnknownJob:
        _rebuild(job_id, key, house)


def _rebuild(job_id: str, key: str, house: Household) -> None:
    ended = read_end(job_id, bucket=house.bucket)
    if ended is not None:
        house.bucket.delete([key])
        return
    try:
        request = JobRequest.from_json(house.bucket.metadata(key)["request"])
    except NoSuchObject:
        return
    except (KeyError, ValueError, MaskmillError) as error:
        log.error("input_without_request", key=key, reason=repr(error))
        return
    house.jobs.create(request)
    house.queue.publish(request)
    _note("rebuilt", job_id, house)


def _note(what: str, job_id: str, house: Household) -> None:
    log.info("job_looked_after", what=what, job_id=job_id)
    house.metrics.mended(what)
