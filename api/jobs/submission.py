"""Submission of jobs: store the input, then record the job and enqueue its message in one step.

In this order a worker never claims a job whose image is not stored yet.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import structlog

from api.jobs.admission import Admission, Caller, JobProfile, Submission
from api.jobs.compensation import Compensator
from api.jobs.input_store import InputStore
from api.jobs.queries import TenantJobs
from api.jobs.references import InputReference
from api.jobs.upload import Upload
from shared.broker.envelope import encode_message
from shared.errors import BadParameter, ClientError, UnknownJob
from shared.jobs.messages import job_queue
from shared.jobs.model import Idempotency, Job, JobRequest
from shared.jobs.outcomes import CreateOutcome
from shared.jobs.request_record import list_inbox_keys
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket

log = structlog.get_logger()

MAX_IDEMPOTENCY_KEY_LENGTH = 255
IDEMPOTENCY_SECONDS = 24 * 3600


WebhookCheck = Callable[[str, str], object]
"""Is given a tenant and the webhook of a submission; raises a ClientError if there may be no such one."""


def accept_webhook(_tenant: str, _webhook: str) -> None:
    """Accept any webhook, whose shape was checked with the other options."""


@dataclass(frozen=True, slots=True)
class JobSubmitter:
    """Submits jobs whose input is durable.

    open_tenant: gives access to the jobs of a tenant.
    check_webhook: called before anything is stored.
    """

    admission: Admission
    profile: JobProfile
    jobs: JobStore
    bucket: Bucket
    inputs: InputStore
    compensator: Compensator
    open_tenant: Callable[[str], TenantJobs]
    check_webhook: WebhookCheck = accept_webhook

    def submit(
        self, submission: Submission, caller: Caller, *, idempotency_key: str | None = None, place: int | None = None
    ) -> Job:
        """Submit a job; once this returns, the job survives the loss of any process and of Redis.

        With an idempotency key or an own id that was used before, the earlier job is returned and nothing is stored;
        unless nothing of that job is kept any more.

        Args:
            place: of the image among those of its request, from 0, if there are several: each has a key of its own.

        Raises:
            ClientError: the image, the model, the webhook or the idempotency key is not acceptable.
            Overloaded: too many jobs are queued, or Redis has too little memory.
            Unavailable: Redis or the bucket did not answer.
        """
        job = self._submit(submission, caller, idempotency_key, place)
        if isinstance(submission.image, Upload):
            submission.image.release()
        return job

    def resubmit(self, request: JobRequest, image: Upload | InputReference, *, gone_id: str | None = None) -> Job:
        """Create a job whose request is complete and was admitted; return it, or the one that its key stands for.

        Raises:
            Overloaded: too many jobs are queued, or Redis has too little memory.
            Unavailable: Redis or the bucket did not answer.
        """
        job_id = self._store_and_create(request, image, gone_id)
        if job_id == request.id:
            return Job(request)
        try:
            return self.open_tenant(request.tenant).get(job_id)
        except UnknownJob:
            if job_id == gone_id:
                raise
            # It ended, and nothing of it is kept any more.  The input that was stored just now is being deleted.
            return self.resubmit(replace(request, id=self.admission.new_id()), image, gone_id=job_id)

    def _submit(
        self,
        submission: Submission,
        caller: Caller,
        idempotency_key: str | None,
        place: int | None,
        *,
        gone_id: str | None = None,
    ) -> Job:
        request = self._admit(submission, caller, idempotency_key, place)
        # What an earlier submission named may be gone by now.
        job_id = None if isinstance(submission.image, Upload) else self.jobs.find_repeated(request)
        if job_id is None or job_id == gone_id:
            job_id = self._store_and_create(request, submission.image, gone_id)
        if job_id == request.id:
            _log_submitted(request)
            return Job(request)
        log.info("job_submission_repeated", job_id=job_id)
        try:
            return self.open_tenant(caller.tenant).get(job_id)
        except UnknownJob:
            if job_id == gone_id:
                raise
            # It ended, and nothing of it is kept any more.
            return self._submit(submission, caller, idempotency_key, place, gone_id=job_id)

    def _admit(
        self, submission: Submission, caller: Caller, idempotency_key: str | None, place: int | None
    ) -> JobRequest:
        self.inputs.check(submission.image)
        request = self.admission.admit(submission, caller, self.profile).request
        if request.webhook is not None:
            self.check_webhook(request.tenant, request.webhook)
        return replace(request, idempotency=build_idempotency(request, submission, idempotency_key, place))

    def _store_and_create(self, request: JobRequest, image: Upload | InputReference, gone_id: str | None) -> str:
        """Return the id of the job: the new one's, or the one that the idempotency key stands for."""

        def delete_input() -> None:
            self.bucket.delete(list_inbox_keys(request.id))

        def discard() -> None:
            # The job may have been recorded although the reply was lost; a claimed job is left to its worker.
            self.jobs.discard(request)
            if not self.jobs.is_known(request.id):
                delete_input()

        with self.compensator.compensate_on_error(request.id, delete_input, harmless=ClientError):
            self.inputs.store(image, request)
        with self.compensator.compensate_on_error(request.id, discard):
            created = self.jobs.create(
                request,
                message=encode_message(job_queue(request)),
                limits=self.admission.limits.queue,
                gone_id=gone_id,
            )
        if created.outcome is not CreateOutcome.CREATED:
            self.compensator.schedule(request.id, delete_input)
        return created.job_id


def _log_submitted(request: JobRequest) -> None:
    log.info(
        "job_submitted",
        job_id=request.id,
        model=request.model,
        priority=request.priority,
        bytes=request.image.bytes if request.image else None,
    )


def build_idempotency(
    request: JobRequest, submission: Submission, key: str | None, place: int | None = None
) -> Idempotency | None:
    """Return a key with the fingerprint of what it is used for.

    Args:
        submission: what the caller asked for; the default formats may change within the life of a key.
        place: of the image in its request, if that has several.

    Raises:
        BadParameter: the key is empty, too long or not printable.
    """
    if request.client_id is not None:
        # It lives as long as the record of the job.
        return Idempotency("", compute_fingerprint(request, submission), 0.0)
    if key is None:
        return None
    digest = compute_key_digest(request.tenant, key, place)
    expires_at = request.created_at + IDEMPOTENCY_SECONDS
    return Idempotency(digest, compute_fingerprint(request, submission), expires_at)


def compute_key_digest(tenant: str, key: str, place: int | None = None) -> str:
    """Return a SHA-256 of a tenant and its idempotency key.

    Raises:
        BadParameter: the key is empty, too long or not printable.
    """
    if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH or not key.isprintable():
        raise BadParameter(f"An Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY_LENGTH} printable characters.")
    return hash_document([tenant, key, *([] if place is None else [place])])


def compute_fingerprint(request: JobRequest, submission: Submission) -> str:
    """Return a SHA-256 of what a caller asked for: the same for the same submission, at any time."""
    image = submission.image
    # An image that no process has read yet is identified by its reference.
    content = request.require_image().sha256 if isinstance(image, Upload) else [type(image).__name__, asdict(image)]
    asked = [content, request.model, asdict(request.parameters), submission.formats]
    return hash_document([*asked, asdict(submission.options)])


def hash_document(document: object) -> str:
    """Return the SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
