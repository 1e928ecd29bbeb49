"""Taking work in: from an image and what was asked of it to a job that a worker will find.  No Flask here.

The order is what keeps promises: who is turned away leaves nothing behind, and the message goes last, so that a worker
never meets a job whose image is not there.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import structlog

from api.jobs.inspection import inspect_image
from api.jobs.queries import find_job
from api.services import Caller, Services
from shared.errors import BadParameter, MaskmillError, QueueFull
from shared.jobs.messages import SegmentMessage, queue_name
from shared.jobs.model import Job, JobRequest, Priority
from shared.jobs.parameters import SegmentParameters
from shared.jobs.store import Handover, How, Idempotency
from shared.storage.keys import inbox_key

log = structlog.get_logger()

LONGEST_IDEMPOTENCY_KEY = 255


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller wants: an image, how to segment it, and by which model (None: the default one)."""

    image: bytes
    parameters: SegmentParameters
    model: str | None = None


def submit_job(order: Order, caller: Caller, services: Services, *, idempotency_key: str | None = None) -> Job:
    """Take a job in; once this returns, the job survives the loss of any process and of Redis.

    With an idempotency key that was used before, the earlier job is returned and nothing is taken in.

    Raises:
        ClientError: the image, the model or the idempotency key is not in order.
        QueueFull: too many jobs wait already.
        Unavailable: Redis or the bucket did not answer.
    """
    request = admit(order, caller, services, Priority.NORMAL)
    _insist_on_room(request, services)
    idempotency = _idempotency_of(request, idempotency_key)
    job_id = _store_and_queue(request, order.image, idempotency, services)
    if job_id != request.id:
        log.info("job_submitted_again", job_id=job_id)
        return find_job(job_id, caller.tenant, services)
    log.info("job_submitted", job_id=job_id, model=request.model, priority=request.priority, bytes=request.image.bytes)
    return Job(request)


def admit(order: Order, caller: Caller, services: Services, priority: Priority) -> JobRequest:
    """Look at an order before it costs anything, and return the request that comes of it.

    Raises:
        ClientError: the image or the model is not in order.
        Unavailable: Redis did not answer.
    """
    model = services.model_registry.find(order.model).id
    image = inspect_image(order.image, max_pixels=services.limits.max_image_pixels)
    now = services.now()
    return JobRequest(
        id=services.new_id(),
        tenant=caller.tenant,
        model=model,
        parameters=order.parameters,
        image=image,
        priority=priority,
        created_at=now,
        request_id=caller.request_id,
        deadline_at=now + services.limits.sync_deadline_seconds if priority is Priority.INTERACTIVE else None,
    )


def _insist_on_room(request: JobRequest, services: Services) -> None:
    """Ask before anything is stored; creating the job asks again, for good."""
    limit = services.limits.max_queued
    if services.jobs.backlog(queue_name(request.model, request.priority)) >= limit:
        raise QueueFull("Too many jobs are waiting; try again when some of them are done.", limit=limit)


def _store_and_queue(request: JobRequest, image: bytes, idempotency: Idempotency | None, services: Services) -> str:
    """Return the id of the job: this one, or the one that the idempotency key stands for."""

    def drop_input() -> None:
        services.bucket.delete([inbox_key(request.id)])

    def discard() -> None:
        services.jobs.discard(request, idempotency=idempotency)

    def withdraw() -> None:
        # The job may have been recorded although nobody said so; one that a worker has taken is left to it.
        discard()
        if not services.jobs.is_known(request.id):
            drop_input()

    with compensate_on_error(request, services, drop_input):
        services.bucket.put(
            inbox_key(request.id),
            image,
            content_type=f"image/{request.image.format}",
            metadata={"request": request.to_json()},
        )
    limit = services.limits.max_queued
    handover = Handover(SegmentMessage.about(request))
    with compensate_on_error(request, services, withdraw):
        admission = services.jobs.create(request, max_queued=limit, idempotency=idempotency, handover=handover)
    if admission.how is not How.CREATED:
        services.compensator.clear(request.id, drop_input)
    return admission.job_id


@contextmanager
def compensate_on_error(request: JobRequest, services: Services, *steps: Callable[[], None]) -> Iterator[None]:
    """Schedule compensation when something fails, so that the caller gets the error at once."""
    try:
        yield
    except MaskmillError:
        for step in steps:
            services.compensator.clear(request.id, step)
        raise


def _idempotency_of(request: JobRequest, key: str | None) -> Idempotency | None:
    if key is None:
        return None
    if not 1 <= len(key) <= LONGEST_IDEMPOTENCY_KEY or not key.isprintable():
        raise BadParameter(f"An Idempotency-Key has 1 to {LONGEST_IDEMPOTENCY_KEY} printable characters.")
    asked = json.dumps([request.image.sha256, request.model, asdict(request.parameters)], sort_keys=True)
    return Idempotency(key, hashlib.sha256(asked.encode()).hexdigest())
