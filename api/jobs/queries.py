"""A tenant's view of one of its jobs: state, result, files.

A job is named by its id, or by the one that its caller has given it.  Redis knows the state of a job; the bucket knows
its result, and its request even after Redis has lost its data.  A job of another tenant is answered like one that does
not exist.
"""

from contextlib import suppress
from dataclasses import dataclass, replace

from api.jobs.drain import Drain
from api.jobs.files import check_requested, read_file
from api.jobs.waiting import WaitingSlots
from shared.errors import (
    AttemptsExhausted,
    Canceled,
    DeadlineExceeded,
    Gone,
    MaskmillError,
    NotFinished,
    TooManyWaiting,
    Unavailable,
    UnknownJob,
    UnknownMask,
    build_error,
)
from shared.formats.huggingface import hf_array
from shared.formats.registry import get_format
from shared.images.formats import detect_image_format
from shared.jobs.completion import read_ended_job, read_result
from shared.jobs.events import JobEvents
from shared.jobs.ids import is_client_id, is_job_id
from shared.jobs.keeping import read_kept
from shared.jobs.model import Job, JobState
from shared.jobs.request_record import read_request
from shared.jobs.result import ByteRange, JobResult
from shared.jobs.store import JobStore
from shared.rfc3339 import format_timestamp
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import dead_letter_key, inbox_key, input_key, kept_prefix


@dataclass(frozen=True, slots=True)
class TenantJobs:
    """The jobs of one tenant.  The tenant is bound once per request, so that no call can omit it."""

    tenant: str
    jobs: JobStore
    bucket: Bucket
    events: JobEvents
    max_wait_seconds: float
    input_ttl_seconds: int
    slots: WaitingSlots
    drain: Drain

    def get(self, job_id: str) -> Job:
        """Return the current state of a job.

        Raises:
            UnknownJob: the tenant has no job of this id.
        """
        job_id = self.resolve(job_id)
        try:
            job = self.jobs.get(job_id)
        except UnknownJob:
            self._check_purge(job_id)
            job = self._read_from_bucket(job_id)
        if job.request.tenant != self.tenant:
            raise _unknown(job_id)
        return job

    def resolve(self, job_id: str) -> str:
        """Return the id of a job that is named by it, or by the caller's own id.

        Raises:
            UnknownJob: the tenant has no job of this own id, or it is no id.
        """
        if is_job_id(job_id):
            return job_id
        found = self.jobs.find_client_id(self.tenant, job_id) if is_client_id(job_id) else None
        if found is None:
            raise _unknown(job_id)
        return found

    def wait(self, job_id: str, *, seconds: float) -> Job:
        """Return a job when it is final, or its current state after the timeout.

        That is at once if too many requests wait, or if this process stops.

        Raises:
            UnknownJob: the tenant has no job of this id.
        """

        def poll() -> Job | None:
            current = self.get(job.id)
            return current if current.state.is_final or self.drain.has_begun else None

        job = self.get(job_id)
        if job.state.is_final or seconds <= 0:
            return job
        seconds = min(seconds, self.max_wait_seconds)
        try:
            with self.slots.occupy(self.tenant):
                return self.events.wait_for(job.id, poll, seconds=seconds) or self.get(job.id)
        except TooManyWaiting:
            # The client asked for a delay at most, and polls again after the Retry-After of the response.
            return job

    def get_result(self, job_id: str) -> JobResult:
        """Return the result of a job that succeeded.

        Raises:
            UnknownJob: the tenant has no job of this id.
            Gone: its result is not stored any more.
            NotFinished: there is no result yet.
            MaskmillError: the error that the job failed with.
        """
        job_id = self.resolve(job_id)
        # While Redis is unavailable, results are still shown; of a purged job the steward leaves none.
        with suppress(Unavailable):
            self._check_purge(job_id)
        result = read_result(job_id, bucket=self.bucket)
        if result is None:
            job = self.get(job_id)
            if not job.state.is_final:
                raise NotFinished(f"The job is {job.state}; its result comes when it has succeeded.", state=job.state)
            # It may have ended between the two reads: the result is put before the job store says so.
            result = read_result(job_id, bucket=self.bucket)
            if result is None:
                raise get_failure(job) or build_gone(f"The result of job {job_id} is not stored any more.", job)
        if result.request.tenant != self.tenant:
            raise _unknown(job_id)
        failure = get_failure(Job(result.request, result.state, failure=result.failure))
        if failure is not None:
            raise failure
        return result

    def get_file(self, job_id: str, name: str) -> tuple[bytes, str]:
        """Return the file of a format of a job that succeeded, and its media type.

        Raises:
            UnknownJob: the tenant has no such job, or the job was submitted without this format.
            MaskmillError: as get_result().
        """
        result = self.get_result(job_id)
        content = self._read_file(result, name)
        stored = result.objects.get(name)
        return content, (stored and stored.media_type) or get_format(name).media_type

    def get_mask(self, job_id: str, number: int) -> bytes:
        """Return the PNG of one segment's mask.

        Raises:
            UnknownMask: the job has no segment of this number.
            UnknownJob: the tenant has no such job, or the job was submitted without masks.
            MaskmillError: as get_result().
        """
        result = self.get_result(job_id)
        if not 1 <= number <= len(result.segments):
            raise UnknownMask(f"The job has no segment {number}; it has {len(result.segments)}, counted from 1.")
        masks = get_format("masks")
        check_requested(result, masks)
        place = result.masks.get(number)
        if place is None:
            raise UnknownMask(f"The job has no mask of segment {number}.")
        return self._read_file(result, "masks", part=place)

    def get_input(self, job_id: str) -> tuple[bytes, str | None]:
        """Return the image file that a job was submitted with, and its format; None if that is not known.

        Raises:
            UnknownJob: the tenant has no such job, or its image was not fetched from its URL.
            Gone: its image is not kept, or not any more.
            StorageUnavailable: the bucket did not answer.
        """
        job = self.get(job_id)
        if not job.request.input.is_durable:
            raise Gone("The image of a synchronous request is not kept once it is answered.")
        # In this order, because an image is copied to where it is kept before it is deleted from the inbox.
        keys = (inbox_key(job.id), input_key(job.id), dead_letter_key(job.id))
        # Of a canceled job nothing is kept, but its deletion may not be complete.
        for key in keys if job.state is not JobState.CANCELED else ():
            with suppress(NoSuchObject):
                return name_format(job, self.bucket.get(key))
        raise Gone(f"The image of job {job_id} is not kept any more.", kept_until=self._find_end_of_input(job))

    def get_hf_array(self, job_id: str) -> bytes:
        """Return the JSON array of the Hugging Face task, of a job that succeeded.

        Raises:
            UnknownJob: the tenant has no such job, or its masks are not stored.
            MaskmillError: as get_result().
        """
        result = self.get_result(job_id)
        masks = self._read_file(result, "masks")
        return hf_array(result.segments, masks, result.masks)

    def _read_file(self, result: JobResult, name: str, *, part: ByteRange | None = None) -> bytes:
        """Return the file of a format, or a part of it.

        Raises:
            Gone: it is not stored any more.
            MaskmillError: as read_file().
        """
        try:
            return read_file(result, get_format(name), bucket=self.bucket, part=part)
        except Gone as error:
            raise build_gone(str(error), self.get(result.request.id)) from error

    def _find_end_of_input(self, job: Job) -> str | None:
        """Return until when the image of a job that has ended was kept; None if that is not known."""
        if job.ended_at is None or job.expires_at is None:
            return None
        if job.state is JobState.CANCELED:
            return format_timestamp(job.ended_at)
        if job.failure is not None and job.failure.code == AttemptsExhausted.code:
            return format_timestamp(job.expires_at)
        return format_timestamp(min(job.ended_at + self.input_ttl_seconds, job.expires_at))

    def _check_purge(self, job_id: str) -> None:
        """Raise UnknownJob for a purged job, for which its worker may just be storing a result."""
        if self.jobs.is_purged(job_id):
            raise _unknown(job_id)

    def _read_from_bucket(self, job_id: str) -> Job:
        """Return a job that Redis does not know."""
        ended = read_ended_job(job_id, bucket=self.bucket)
        if ended is not None:
            kept = read_kept(self.bucket.list_objects(kept_prefix(job_id)))
            return replace(ended, kept_until=kept.get(job_id))
        try:
            # Redis lost its data and the steward has not recovered this job yet, so it is reported as queued.
            return Job(read_request(job_id, bucket=self.bucket))
        except (NoSuchObject, KeyError):
            raise _unknown(job_id) from None


def get_failure(job: Job) -> MaskmillError | None:
    """Return why a final job has no result; None for one that succeeded."""
    if job.state is JobState.SUCCEEDED:
        return None
    if job.state is JobState.CANCELED:
        return Canceled("The job was canceled, so it has no result.", state=job.state)
    if job.failure is not None:
        return build_error(job.failure.code, job.failure.message)
    if job.state is JobState.EXPIRED:
        return DeadlineExceeded("There was no result before the deadline.")
    return MaskmillError("The job failed without a recorded reason.")


def build_gone(message: str, job: Job) -> Gone:
    """Return the error for something that was kept as long as a job."""
    return Gone(message, kept_until=None if job.expires_at is None else format_timestamp(job.expires_at))


def name_format(job: Job, content: bytes) -> tuple[bytes, str | None]:
    """Return an image file with its format.

    Raises:
        UnknownJob: the file is empty, because no worker has fetched it from its URL.
    """
    if not content:
        raise UnknownJob("The image of this job was not fetched from its URL.")
    image = job.request.image
    return content, image.format if image else detect_image_format(content)


def _unknown(job_id: str) -> UnknownJob:
    return UnknownJob(f"There is no job {job_id[:64]}, or it has expired.")
