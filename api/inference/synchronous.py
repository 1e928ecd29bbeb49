"""Segmenting while the caller waits: the same work is done once, whoever asks for it and however often.

An identical request that is under way is joined; one that was answered before is answered from what is stored.  No
Flask here.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

import orjson
import structlog

from api.inference.model_registry import ModelState
from api.jobs.queries import failure_of, hf_reply_of
from api.jobs.submission import Order, admit, compensate_on_error
from api.services import Caller, Services
from shared.errors import (
    Canceled,
    DeadlineExceeded,
    MaskmillError,
    ModelNotReady,
    StoreUnavailable,
    Unavailable,
    UnknownJob,
)
from shared.jobs.completion import complete_in_store, complete_job
from shared.jobs.messages import SegmentMessage
from shared.jobs.model import Failure, JobRequest, JobState, Priority
from shared.jobs.result import JobResult
from shared.jobs.store import Admission, Handover, How, Work

log = structlog.get_logger()

# The image outlives the deadline by this much, so that a worker who took the job in time still finds it.
IMAGE_MARGIN_SECONDS = 30.0
# Long enough for a worker to take up a job, and short beside what it takes to do one.
FIRST_LOOK_SECONDS = 0.02


class Source(StrEnum):
    """Where a reply came from."""

    HIT = "hit"
    MISS = "miss"
    COALESCED = "coalesced"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a caller asks of the service beside the masks.

    use_cache: whether the result of the same work, done or under way, will do.
    wait_for_model: whether to wait for a model without a ready worker until the deadline, or only for a short while.
    """

    use_cache: bool = True
    wait_for_model: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A JSON array as the contract has it, and the job that it came from."""

    job_id: str
    model: str
    body: bytes
    source: Source


def segment_now(
    order: Order,
    caller: Caller,
    services: Services,
    *,
    terms: Terms,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Reply:
    """Segment an image while the caller waits.

    Args:
        is_wanted: says whether the caller is still there; asked every now and then.

    Raises:
        ClientError: the image or the model is not in order.
        QueueFull: too many callers wait already.
        Canceled: nobody wants the result any more.
        ModelNotReady: no worker has the model ready.
        DeadlineExceeded: there was no result in time.
        Unavailable: Redis did not answer.
        WorkerFault: the worker could not do it.
    """
    request = admit(order, caller, services, Priority.INTERACTIVE)
    work = _work_of(request, terms, services)
    while True:
        admission = _queue(request, order.image, work, services)
        if admission.how is How.KNOWN:
            body = _stored_reply(admission.job_id, request.tenant, services)
            if body is not None:
                return Reply(admission.job_id, request.model, body, Source.HIT)
            services.jobs.forget_work(work, admission.job_id)
        else:
            wait = _Wait(request, admission, terms, is_wanted, services)
            body = wait.for_reply()
            if body is not None:
                return Reply(admission.job_id, request.model, body, wait.source)
        # What stood for this request is gone: somebody else's end, but not ours.  So it gets a job of its own.
        request = replace(request, id=services.new_id())


@dataclass(frozen=True, slots=True)
class _Wait:
    """One caller who waits for one job, his own or one that he joined."""

    request: JobRequest
    admission: Admission
    terms: Terms
    is_wanted: Callable[[], bool]
    services: Services

    @property
    def source(self) -> Source:
        return Source.COALESCED if self.admission.how is How.JOINED else Source.MISS

    def for_reply(self) -> bytes | None:
        """Return the reply, or None if the job that was joined ended without one.

        Raises:
            MaskmillError: why there is none.
        """
        job_id, deadline = self.admission.job_id, self.request.deadline_at or 0.0
        try:
            found = self.services.events.wait_until(
                job_id,
                self._look,
                seconds=deadline - self.services.now(),
                first_look_seconds=FIRST_LOOK_SECONDS if self.admission.how is How.CREATED else 0.0,
            )
            if found is None:
                limit = self.services.limits.sync_deadline_seconds
                raise DeadlineExceeded(
                    f"There was no result within {limit:g} s; submit it as a job instead, at /v1/jobs."
                )
        except (Canceled, DeadlineExceeded, ModelNotReady) as error:
            self._leave(error)
            raise
        return found or None

    def _look(self) -> bytes | None:
        """Return the reply; nothing (b"") if the job that was joined is gone; None while there is neither."""
        body = self.services.payloads.get_reply(self.admission.job_id)
        if body is not None:
            return body
        if not self.is_wanted():
            raise Canceled("The caller went away before there was a result.")
        joined = self.admission.how is How.JOINED
        try:
            job = self.services.jobs.get(self.admission.job_id)
        except UnknownJob as error:
            if joined:
                return b""
            raise StoreUnavailable("The job store lost this request; send it again.") from error
        if joined and job.state in (JobState.CANCELED, JobState.EXPIRED):
            return b""
        failure = failure_of(job) if job.state.is_final else None
        if failure is not None:
            raise failure
        self._insist_on_worker()
        return None

    def _insist_on_worker(self) -> None:
        """Raise ModelNotReady if the model has had no ready worker for as long as such a caller is held."""
        waited = self.services.now() - self.request.created_at
        if self.terms.wait_for_model or waited < self.services.limits.cold_start_seconds:
            return
        model = self.services.model_registry.find(self.request.model)
        if model.state is not ModelState.READY:
            raise ModelNotReady(
                model.why_not_ready, estimated_time=model.estimated_seconds(self.services.now()), state=model.state
            )

    def _leave(self, error: MaskmillError) -> None:
        """Stop waiting; the last to leave ends the job, so that it never reaches a device."""
        with suppress(Unavailable):
            if self.services.jobs.leave(self.admission.job_id) > 0:
                return
            request = self.services.jobs.get(self.admission.job_id).request
            state = JobState.CANCELED if isinstance(error, Canceled) else JobState.EXPIRED
            _give_up(JobResult(request, state, failure=Failure(error.code, str(error))), self.services)


def _work_of(request: JobRequest, terms: Terms, services: Services) -> Work:
    """Name the work.

    While the revision is not known, because no worker is ready or those that are differ, only those who ask at the
    same time share it.
    """
    revision = services.model_registry.find(request.model).revision
    asked = [request.tenant, request.model, revision, request.image.sha256, request.parameters]
    key = hashlib.sha256(orjson.dumps(asked)).hexdigest()
    passing = int(services.limits.sync_deadline_seconds) + 1
    return Work(key, take=terms.use_cache, seconds=None if revision else passing)


def _queue(request: JobRequest, image: bytes, work: Work, services: Services) -> Admission:
    """Make the request a job of its own, unless another one stands for it."""

    def discard() -> None:
        services.jobs.discard(request)

    lifetime = services.limits.sync_deadline_seconds + IMAGE_MARGIN_SECONDS
    handover = Handover(SegmentMessage.about(request), image, lifetime)
    limit = services.limits.max_queued
    # After a silence nobody knows whether it came to that; a job that a worker has taken meanwhile is left to it.
    with compensate_on_error(request, services, discard):
        admission = services.jobs.create(request, max_queued=limit, work=work, handover=handover)
    log.info(
        "job_submitted", job_id=admission.job_id, model=request.model, priority=request.priority, how=admission.how
    )
    return admission


def _stored_reply(job_id: str, tenant: str, services: Services) -> bytes | None:
    """Return the reply of a job that has succeeded, or None if it is not stored any more."""
    body = services.payloads.get_reply(job_id)
    if body is not None:
        return body
    try:
        return hf_reply_of(job_id, tenant, services)
    except UnknownJob:
        return None


def _give_up(end: JobResult, services: Services) -> None:
    """End a job that nobody waits for any more; if that cannot be done, its deadline will."""
    try:
        complete_job(end, jobs=services.jobs, bucket=services.bucket)
    except Unavailable:
        complete_in_store(end, jobs=services.jobs)
