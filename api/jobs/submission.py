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
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket
from shared.storage.keys import inbox_key

log = structlog.get_logger()

MAX_IDEMPOTENCY_KEY_LENGTH = 255
IDEMPOTENCY_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class JobSubmitter:
    """Submits jobs whose input is durable; `open_tenant` gives access to the jobs of a tenant."""

    admission: Admission
    profile: JobProfile
    jobs: JobStore
    bucket: Bucket
    inputs: InputStore
    compensator: Compensator
    open_tenant: Callable[[str], TenantJobs]

    def submit(self, submission: Submission, caller: Caller, *, idempotency_key: str | None = None) -> Job:
        """Submit a job; once this returns, the job survives the loss of any process and of Redis.

        With an idempotency key that was used before, the earlier job is returned and nothing is stored; unless nothing
        of that job is kept any more.

        Raises:
            ClientError: the image, the model or the idempotency key is not acceptable.
            Overloaded: too many jobs are queued, or Redis has too little memory.
            Unavailable: Redis or the bucket did not answer.
        """
        job = self._submit(submission, caller, idempotency_key)
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
        self, submission: Submission, caller: Caller, idempotency_key: str | None, *, gone_id: str | None = None
    ) -> Job:
        self.inputs.check(submission.image)
        request = self.admission.admit(submission, caller, self.profile).request
        request = replace(request, idempotency=build_idempotency(request, submission, idempotency_key))
        # What an earlier submission named may be gone by now.
        repeated = None if isinstance(submission.image, Upload) else self.jobs.find_repeated(request)
        if repeated in (None, gone_id):
            repeated = self._store_and_create(request, submission.image, gone_id)
        job_id = repeated
        if job_id != request.id:
            log.info("job_submission_repeated", job_id=job_id)
            try:
                return self.open_tenant(caller.tenant).get(job_id)
            except UnknownJob:
                if job_id == gone_id:
                    raise
                # It ended, and nothing of it is kept any more.
                return self._submit(submission, caller, idempotency_key, gone_id=job_id)
        log.info(
            "job_submitted",
            job_id=job_id,
            model=request.model,
            priority=request.priority,
            bytes=request.image.bytes if request.image else None,
        )
        return Job(request)

    def _store_and_create(self, request: JobRequest, image: Upload | InputReference, gone_id: str | None) -> str:
        """Return the id of the job: the new one's, or the one that the idempotency key stands for."""

        def delete_input() -> None:
            self.bucket.delete([inbox_key(request.id)])

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


def build_idempotency(request: JobRequest, submission: Submission, key: str | None) -> Idempotency | None:
    """Return a key with the fingerprint of what it is used for.

    Args:
        submission: what the caller asked for; the default formats may change within the life of a key.

    Raises:
        BadParameter: the key is empty, too long or not printable.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH or not key.isprintable():
        raise BadParameter(f"An Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY_LENGTH} printable characters.")
    # An image that nobody has read yet is known by what names it.
    image = submission.image
    content = request.require_image().sha256 if isinstance(image, Upload) else [type(image).__name__, asdict(image)]
    asked = [content, request.model, asdict(request.parameters), submission.formats]
    return Idempotency(_hash([request.tenant, key]), _hash(asked), request.created_at + IDEMPOTENCY_SECONDS)


def _hash(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
