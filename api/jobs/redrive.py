"""Redrive: run a job again that ended without a result, as a new job with the same request and a copy of its image.

The old job stays as it ended: the bucket decides the end of a job, once.  So a redrive is a submission, and is as safe:
its input is stored before its record, and outlives the loss of Redis.
"""

import hashlib
import json
from dataclasses import dataclass, replace

import structlog

from api.jobs.admission import Caller
from api.jobs.queries import TenantJobs
from api.jobs.references import InputReference, UrlReference
from api.jobs.submission import IDEMPOTENCY_SECONDS, JobSubmitter
from api.jobs.upload import Upload
from shared.errors import AlreadyEnded, NotFinished
from shared.jobs.model import Idempotency, Job, JobRequest, JobState, Priority, UrlInput

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JobRedriver:
    submitter: JobSubmitter

    def redrive(self, job_id: str, caller: Caller) -> Job:
        """Return the job that runs a job again; within a day, the same one at each call.

        Raises:
            UnknownJob: the tenant has no job of this id.
            NotFinished: it has not ended.
            AlreadyEnded: it has a result.
            Gone: its image is not kept any more.
            ForbiddenInput, ForbiddenUrl: its URL is to be fetched again, and may not be any more.
            NotPermitted: the caller's token does not allow its model.
            Overloaded: too many jobs are queued, or Redis has too little memory.
            Unavailable: Redis or the bucket did not answer.
        """
        tenant_jobs = self.submitter.open_tenant(caller.tenant)
        job = tenant_jobs.get(job_id)
        check_redrivable(job)
        priority = self.submitter.admission.admit_again(job.request, caller)
        image = read_input(job, tenant_jobs)
        self.submitter.inputs.check(image)
        request = self._build_request(job.request, priority, caller)
        redriven = self.submitter.resubmit(request, image)
        log.info("job_redriven", job_id=redriven.id, redrive_of=job.id, is_repeated=redriven.id != request.id)
        return redriven

    def _build_request(self, original: JobRequest, priority: Priority, caller: Caller) -> JobRequest:
        """Return the request of the new job: a deadline is as far away as it was."""
        admission, profile = self.submitter.admission, self.submitter.profile
        now = admission.now()
        deadline_at = None if original.deadline_at is None else now + original.deadline_at - original.created_at
        return replace(
            original,
            id=admission.new_id(),
            created_at=now,
            priority=priority,
            request_id=caller.request_id,
            deadline_at=deadline_at,
            retention=profile.retention,
            idempotency=build_redrive_key(original, now),
            client_id=None,
            redrive_of=original.id,
        )


def read_input(job: Job, tenant_jobs: TenantJobs) -> Upload | InputReference:
    """Return the image that a job was submitted with, or its URL if no worker has read what is there.

    Raises:
        Gone: it is not kept any more.
        StorageUnavailable: the bucket did not answer.
    """
    request = job.request
    if isinstance(request.input, UrlInput) and request.image is None:
        return UrlReference(request.input.url)
    return Upload(tenant_jobs.read_input(job.id))


def check_redrivable(job: Job) -> None:
    """Check that a job ended without a result.

    Raises:
        NotFinished: it has not ended.
        AlreadyEnded: it has a result.
    """
    if not job.state.is_final:
        raise NotFinished(f"The job is {job.state}; only one that has ended can be run again.", state=job.state)
    if job.state is JobState.SUCCEEDED:
        raise AlreadyEnded("The job has succeeded, so it is not run again.", state=job.state)


def build_redrive_key(original: JobRequest, now: float) -> Idempotency:
    """Return the key under which the redrives of a job are one job; no key of a caller is like it."""
    digest = hashlib.sha256(json.dumps([original.tenant, "redrive", original.id]).encode()).hexdigest()
    return Idempotency(digest, digest, now + IDEMPOTENCY_SECONDS)
