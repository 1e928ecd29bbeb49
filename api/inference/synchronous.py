"""Synchronous segmentation: identical requests are computed once.

A request is coalesced with an identical one that is under way.  A request whose result exists already is answered from
the cache: the reply payload, or the objects of the job.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

import orjson
import structlog

from api.jobs.admission import Admission, Admitted, Caller, JobProfile, Submission
from api.jobs.compensation import Compensator
from api.jobs.drain import Drain
from api.jobs.ends import get_failure
from api.jobs.limits import SharedLimit
from api.jobs.queries import TenantJobs
from api.jobs.waiting import WaitingSlots
from api.model_registry import ModelRegistry, ModelState, ModelStatus
from shared.broker.envelope import encode_message
from shared.errors import (
    Canceled,
    DeadlineExceeded,
    GatewayStopping,
    Gone,
    MaskmillError,
    ModelNotReady,
    Overloaded,
    ResultOverwritten,
    SharedJobEnded,
    StoreUnavailable,
    Unavailable,
    UnknownJob,
)
from shared.images.formats import DECODING_VERSION
from shared.jobs.completion import complete_in_store, complete_job
from shared.jobs.events import JobEvents
from shared.jobs.messages import job_queue
from shared.jobs.model import Failure, JobState
from shared.jobs.outcomes import CreateOutcome
from shared.jobs.payloads import PayloadStore
from shared.jobs.result import JobResult
from shared.jobs.store import Created, DedupKey, InputPayload, JobStore
from shared.storage.bucket import Bucket

log = structlog.get_logger()

# The image outlives the deadline by this much, so that a worker that claimed the job in time still finds it.
INPUT_MARGIN_SECONDS = 30.0
# Longer than a worker needs to claim a job, and short compared with the job itself.
INITIAL_POLL_SECONDS = 0.02


class CacheStatus(StrEnum):
    """Whether the result was reused (hit), computed (miss) or shared with a running job (coalesced)."""

    HIT = "hit"
    MISS = "miss"
    COALESCED = "coalesced"


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """A caller's options.

    use_cache: whether the result of an identical request, finished or under way, may be used.
    wait_for_model: wait for a model without a ready worker until the deadline, not only for the cold start timeout.
    """

    use_cache: bool = True
    wait_for_model: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The Hugging Face array of a request, and the job that it came from."""

    job_id: str
    model: ModelStatus
    body: bytes
    cache_status: CacheStatus


class _JobReplaced(Exception):
    """The job that stands for a request has no reply for it, for a reason that does not apply to this caller."""


@dataclass(frozen=True, slots=True)
class SyncSegmenter:
    """Segments while the caller waits.

    profile: has the deadline; its jobs' inputs are payloads.
    result_seconds: how long a result may be reused.
    cold_start_seconds: how long a caller is held for a model without a ready worker.
    payload_limit: bytes of the images of all callers.
    """

    admission: Admission
    profile: JobProfile
    jobs: JobStore
    bucket: Bucket
    payloads: PayloadStore
    events: JobEvents
    models: ModelRegistry
    compensator: Compensator
    open_tenant: Callable[[str], TenantJobs]
    deadline_seconds: float
    cold_start_seconds: float
    result_seconds: int
    slots: WaitingSlots
    drain: Drain
    payload_limit: SharedLimit

    def segment(
        self,
        submission: Submission,
        caller: Caller,
        *,
        options: SyncOptions,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Reply:
        """Segment an image while the caller waits.

        Args:
            is_wanted: tells whether the caller is still connected; called at each poll.

        Raises:
            ClientError: the image or the model is not acceptable.
            Overloaded: there is too much work already, or too many callers wait.
            Canceled: the caller has disconnected.
            ModelNotReady: no worker has the model ready.
            SharedJobEnded: the request was coalesced, and the job expired, was canceled or purged.
            DeadlineExceeded: there was no result in time.
            GatewayStopping: this process stops, and there was no result within its grace period.
            Unavailable: Redis did not answer.
            WorkerFault: the worker failed.
        """
        with self.slots.occupy(caller.tenant):
            admitted = self.admission.admit(submission, caller, self.profile)
            return self._segment(admitted, submission, options, is_wanted)

    def _segment(
        self, admitted: Admitted, submission: Submission, options: SyncOptions, is_wanted: Callable[[], bool]
    ) -> Reply:
        dedup = self._build_dedup_key(admitted, options)
        while True:
            created = self._create(admitted, submission.require_upload().content, dedup)
            if created.outcome is not CreateOutcome.CACHED:
                # The job has the image now; callers that wait must not hold the memory for uploads.
                submission.require_upload().release()
            try:
                body = self._get_body(admitted, created, options, is_wanted)
            except _JobReplaced as error:
                # The job that stood for this request is gone, so the request gets a job of its own.
                self.jobs.forget_dedup(dedup, created.job_id)
                if created.outcome is CreateOutcome.COALESCED:
                    raise SharedJobEnded(
                        "The identical request that this one shared a job with ended without a result; send it again."
                    ) from error
                admitted = replace(admitted, request=replace(admitted.request, id=self.admission.new_id()))
            else:
                return Reply(created.job_id, self._refresh(admitted.model), body, _CACHE_STATUS[created.outcome])

    def _refresh(self, model: ModelStatus) -> ModelStatus:
        """Return a model's present status if its workers have changed since the admission: it was not ready then."""
        return model if model.state is ModelState.READY else self.models.find(model.id)

    def _build_dedup_key(self, admitted: Admitted, options: SyncOptions) -> DedupKey:
        """Identify the computation.

        While the model's revision is not known, because no worker is ready or they differ, only requests of about the
        same time are coalesced.
        """
        request, revision = admitted.request, admitted.model.revision
        image = [request.require_image().sha256, DECODING_VERSION]
        asked = [request.tenant, request.model, revision, image, request.parameters, request.formats]
        seconds = self.result_seconds if revision else int(self.deadline_seconds) + 1
        return DedupKey(hashlib.sha256(orjson.dumps(asked)).hexdigest(), seconds, reuse=options.use_cache)

    def _create(self, admitted: Admitted, image: bytes, dedup: DedupKey) -> Created:
        """Create a job for the request, unless another one stands for it."""
        request = admitted.request

        def discard() -> None:
            self.jobs.discard(request)

        limit = self.payload_limit
        seconds = self.deadline_seconds + INPUT_MARGIN_SECONDS
        payload = InputPayload(image, seconds, max_bytes=limit.total, max_bytes_per_tenant=limit.per_tenant)
        # After a timeout the job may have been recorded nevertheless; a claimed job is left to its worker.
        with self.compensator.compensate_on_error(request.id, discard, harmless=Overloaded):
            created = self.jobs.create(
                request,
                message=encode_message(job_queue(request)),
                limits=self.admission.limits.queue,
                dedup=dedup,
                payload=payload,
            )
        log.info(
            "job_submitted",
            job_id=created.job_id,
            model=request.model,
            priority=request.priority,
            outcome=created.outcome,
        )
        return created

    def _get_body(
        self, admitted: Admitted, created: Created, options: SyncOptions, is_wanted: Callable[[], bool]
    ) -> bytes:
        if created.outcome is CreateOutcome.CACHED:
            return self._read_cached(created.job_id, admitted.request.tenant)
        return _Wait(self, admitted, created, options, is_wanted).get_reply()

    def _read_cached(self, job_id: str, tenant: str) -> bytes:
        """Return the array of a job that has succeeded.

        Raises:
            _JobReplaced: its result is not stored any more, or was overwritten.
        """
        body = self.payloads.get_reply(job_id)
        if body is not None:
            return body
        try:
            return self.open_tenant(tenant).get_hf_array(job_id)
        except (UnknownJob, Gone, ResultOverwritten) as error:
            raise _JobReplaced from error


_CACHE_STATUS = {
    CreateOutcome.CREATED: CacheStatus.MISS,
    CreateOutcome.COALESCED: CacheStatus.COALESCED,
    CreateOutcome.CACHED: CacheStatus.HIT,
}


@dataclass(frozen=True, slots=True)
class _Wait:
    """One caller that waits for one job, its own or one that it was coalesced with."""

    segmenter: SyncSegmenter
    admitted: Admitted
    created: Created
    options: SyncOptions
    is_wanted: Callable[[], bool]

    def get_reply(self) -> bytes:
        """Wait for the reply and return it.

        Raises:
            _JobReplaced: the job ended without a reply, and not because of this caller.
            MaskmillError: the reason why there is no reply.
        """
        request, now = self.admitted.request, self.segmenter.admission.now()
        is_new = self.created.outcome is CreateOutcome.CREATED
        try:
            body = self.segmenter.events.wait_for(
                self.created.job_id,
                self._poll,
                seconds=(request.deadline_at or now) - now,
                first_poll_seconds=INITIAL_POLL_SECONDS if is_new else 0.0,
            )
            if body is None:
                raise DeadlineExceeded(
                    f"There was no result within {self.segmenter.deadline_seconds:g} s; "
                    "submit it as a job instead, at /v1/jobs."
                )
        except (Canceled, DeadlineExceeded, GatewayStopping, ModelNotReady) as error:
            self._stop_waiting(error)
            raise
        return body

    def _poll(self) -> bytes | None:
        """Return the reply, or None while there is none."""
        body = self.segmenter.payloads.get_reply(self.created.job_id)
        if body is not None:
            return body
        if not self.is_wanted():
            raise Canceled("The caller disconnected before there was a result.")
        self.segmenter.drain.check()
        self._check_job()
        self._check_model()
        # While callers wait, the rate of the workers is measured, also if no further request comes.
        self.segmenter.admission.load.read(self.segmenter.models.find(self.admitted.request.model))
        return None

    def _check_job(self) -> None:
        """Raise the reason if the job is final without a reply."""
        is_coalesced = self.created.outcome is CreateOutcome.COALESCED
        try:
            job = self.segmenter.jobs.get(self.created.job_id)
        except UnknownJob as error:
            if is_coalesced:
                raise _JobReplaced from error
            if self.segmenter.jobs.is_purged(self.created.job_id):
                raise Canceled("The job was purged before there was a result.") from error
            raise StoreUnavailable("The job store lost this request; send it again.") from error
        if is_coalesced and job.state in (JobState.CANCELED, JobState.EXPIRED):
            raise _JobReplaced
        failure = get_failure(job) if job.state.is_final else None
        if failure is not None:
            raise failure

    def _check_model(self) -> None:
        """Raise ModelNotReady if the model has had no ready worker for the cold start timeout."""
        request, now = self.admitted.request, self.segmenter.admission.now()
        if self.options.wait_for_model or now - request.created_at < self.segmenter.cold_start_seconds:
            return
        model = self.segmenter.models.find(request.model)
        if model.state is not ModelState.READY:
            raise ModelNotReady(model.not_ready_reason, estimated_time=model.estimated_seconds(now), state=model.state)

    def _stop_waiting(self, error: MaskmillError) -> None:
        """Stop waiting; the last waiter completes the job, so that it never reaches a device."""
        jobs, bucket = self.segmenter.jobs, self.segmenter.bucket
        with suppress(Unavailable, UnknownJob):
            if jobs.remove_waiter(self.created.job_id) > 0:
                return
            request = jobs.get(self.created.job_id).request
            state = JobState.CANCELED if isinstance(error, Canceled | GatewayStopping) else JobState.EXPIRED
            result = JobResult(request, state, failure=Failure(error.code, str(error)))
            try:
                complete_job(result, jobs=jobs, bucket=bucket)
            except Unavailable:
                complete_in_store(result, jobs=jobs)
