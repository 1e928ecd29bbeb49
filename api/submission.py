"""Taking work in: from an image and what was asked of it to a job that a worker will find.  No Flask here.

The order is what keeps promises: who is turned away leaves nothing behind, and the message goes last, so that a worker
never meets a job whose image is not there.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import structlog

from api.images import inspect_image
from api.lookup import find_job
from api.services import Caller, Services
from shared.broker import queue_name
from shared.endings import end_in_store, end_job
from shared.errors import (
    BadParameter,
    Canceled,
    DeadlinePassed,
    MaskmillError,
    QueueFull,
    StoreUnavailable,
    Unavailable,
    UnknownJob,
    error_of,
)
from shared.job_store import Idempotency
from shared.jobs import Failure, Job, JobRequest, JobState, Lane, SegmentParameters
from shared.results import JobResult, inbox_key

log = structlog.get_logger()

# The image outlives the deadline by this much, so that a worker who took the job in time still finds it.
IMAGE_MARGIN_SECONDS = 30.0
LONGEST_IDEMPOTENCY_KEY = 255


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller wants: an image, how to segment it, and by which model (None: the default one)."""

    image: bytes
    parameters: SegmentParameters
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a synchronous caller gets: a JSON array as the worker wrote it, and the job that it came from."""

    job_id: str
    model: str
    body: bytes


def submit_job(order: Order, caller: Caller, services: Services, *, idempotency_key: str | None = None) -> Job:
    """Take a job in; once this returns, the job survives the loss of any process and of Redis.

    With an idempotency key that was used before, the earlier job is returned and nothing is taken in.

    Raises:
        ClientError: the image, the model or the idempotency key is not in order.
        QueueFull: too many jobs wait already.
        Unavailable: Redis or the bucket did not answer.
    """
    request = _admit(order, caller, services, Lane.BATCH)
    idempotency = _idempotency_of(request, idempotency_key)
    job_id = _store_and_queue(request, order.image, idempotency, services)
    if job_id != request.id:
        log.info("job_submitted_again", job_id=job_id)
        return find_job(job_id, caller.tenant, services)
    log.info("job_submitted", job_id=job_id, model=request.model, lane=request.lane, bytes=request.image.bytes)
    return Job(request)


def segment_now(
    order: Order, caller: Caller, services: Services, *, is_wanted: Callable[[], bool] = lambda: True
) -> Reply:
    """Segment an image while the caller waits.

    Args:
        is_wanted: says whether the caller is still there; asked every now and then.

    Raises:
        ClientError: the image or the model is not in order.
        QueueFull: too many callers wait already.
        Canceled: nobody wants the result any more.
        DeadlinePassed: there was no result in time.
        Unavailable: Redis did not answer.
        WorkerFault: the worker could not do it.
    """
    request = _admit(order, caller, services, Lane.INTERACTIVE)
    _check_in_and_queue(request, order.image, services)
    log.info("job_submitted", job_id=request.id, model=request.model, lane=request.lane, bytes=request.image.bytes)
    seconds = services.limits.sync_deadline_seconds
    try:
        body = services.events.wait_until(request.id, lambda: _reply_to(request, services, is_wanted), seconds=seconds)
    except Canceled as error:
        _give_up(JobResult(request, JobState.CANCELED, failure=Failure(error.code, str(error))), services)
        raise
    if body is None:
        late = DeadlinePassed(f"There was no result within {seconds:g} s; submit it as a job instead, at /v1/jobs.")
        _give_up(JobResult(request, JobState.EXPIRED, failure=Failure(late.code, str(late))), services)
        # It may have come while the job was being ended.
        body = services.claims.reply_of(request.id)
        if body is None:
            raise late
    return Reply(request.id, request.model, body)


def _admit(order: Order, caller: Caller, services: Services, lane: Lane) -> JobRequest:
    model = services.served.find(order.model).id
    image = inspect_image(order.image, max_pixels=services.limits.max_image_pixels)
    limit = services.limits.max_queued
    if services.jobs.backlog(queue_name(model, lane)) >= limit:
        raise QueueFull("Too many jobs are waiting; try again when some of them are done.", limit=limit)
    now = services.now()
    return JobRequest(
        id=services.new_id(),
        tenant=caller.tenant,
        model=model,
        parameters=order.parameters,
        image=image,
        lane=lane,
        created_at=now,
        request_id=caller.request_id,
        deadline_at=now + services.limits.sync_deadline_seconds if lane is Lane.INTERACTIVE else None,
    )


def _store_and_queue(request: JobRequest, image: bytes, idempotency: Idempotency | None, services: Services) -> str:
    """Return the id of the job: this one, or the one that the idempotency key stands for."""

    def drop_input() -> None:
        services.bucket.delete([inbox_key(request.id)])

    def discard() -> None:
        services.jobs.discard(request, idempotency=idempotency)

    def withdraw() -> None:
        # The message may have arrived although nobody said so; a job that a worker has taken is left to it.
        discard()
        if not services.jobs.is_known(request.id):
            drop_input()

    with _undoing(request, services, drop_input):
        services.bucket.put(
            inbox_key(request.id),
            image,
            content_type=f"image/{request.image.format}",
            metadata={"request": request.to_json()},
        )
    with _undoing(request, services, drop_input, discard):
        limit = services.limits.max_queued
        job_id, is_new = services.jobs.create(request, max_queued=limit, idempotency=idempotency)
    if is_new:
        with _undoing(request, services, withdraw):
            services.queue.publish(request)
    else:
        services.leftovers.clear(request.id, drop_input)
    return job_id


def _check_in_and_queue(request: JobRequest, image: bytes, services: Services) -> None:
    def discard() -> None:
        services.jobs.discard(request)

    lifetime = services.limits.sync_deadline_seconds + IMAGE_MARGIN_SECONDS
    services.claims.check_in(request.id, image, seconds=lifetime)
    with _undoing(request, services, discard):
        services.jobs.create(request, max_queued=services.limits.max_queued)
        services.queue.publish(request)


@contextmanager
def _undoing(request: JobRequest, services: Services, *steps: Callable[[], None]) -> Iterator[None]:
    """Hand what has to be taken back to the leftovers when something fails, so that the caller hears of it at once."""
    try:
        yield
    except MaskmillError:
        for step in steps:
            services.leftovers.clear(request.id, step)
        raise


def _reply_to(request: JobRequest, services: Services, is_wanted: Callable[[], bool]) -> bytes | None:
    body = services.claims.reply_of(request.id)
    if body is not None:
        return body
    if not is_wanted():
        raise Canceled("The caller went away before there was a result.")
    try:
        job = services.jobs.get(request.id)
    except UnknownJob as error:
        raise StoreUnavailable("The job store lost this request; send it again.") from error
    if job.state.is_final and job.state is not JobState.SUCCEEDED:
        failure = job.failure or Failure(Canceled.code, f"The job was {job.state}.")
        raise error_of(failure.code, failure.message)
    # A job that succeeded without a reply in sight: the reply is on its way, or the deadline will tell.
    return None


def _give_up(end: JobResult, services: Services) -> None:
    """End a job that nobody waits for any more; if that cannot be done, its deadline will."""
    try:
        end_job(end, jobs=services.jobs, bucket=services.bucket)
    except Unavailable:
        with suppress(Unavailable):
            end_in_store(end, jobs=services.jobs)


def _idempotency_of(request: JobRequest, key: str | None) -> Idempotency | None:
    if key is None:
        return None
    if not 1 <= len(key) <= LONGEST_IDEMPOTENCY_KEY or not key.isprintable():
        raise BadParameter(f"An Idempotency-Key has 1 to {LONGEST_IDEMPOTENCY_KEY} printable characters.")
    asked = json.dumps([request.image.sha256, request.model, asdict(request.parameters)], sort_keys=True)
    return Idempotency(key, hashlib.sha256(asked.encode()).hexdigest())
