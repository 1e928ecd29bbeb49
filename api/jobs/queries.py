"""A tenant's view of one of its jobs: state, result, files.

A job is named by its id, or by the one that its caller has given it.  Redis knows the state of a job; the bucket knows
its result, and its request even after Redis has lost its data.  A job of another tenant is answered like one that does
not exist.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from api.jobs.drain import Drain
from api.jobs.ends import build_gone, explain_end, format_end
from api.jobs.files import ResultFile, check_requested, find_file, find_stored_file
from api.jobs.rendering import RenderCalls
from api.jobs.waiting import WaitingSlots
from shared.errors import (
    AttemptsExhausted,
    Gone,
    ImageGone,
    NotFinished,
    TooManyWaiting,
    Unavailable,
    UnknownJob,
    UnknownMask,
)
from shared.formats.huggingface import hf_array
from shared.formats.registry import get_format
from shared.images.formats import detect_image_format
from shared.jobs.completion import read_ended_job, read_result
from shared.jobs.events import JobEvents
from shared.jobs.ids import is_client_id, is_job_id
from shared.jobs.keeping import read_kept
from shared.jobs.model import ImageFacts, Job, JobState
from shared.jobs.request_record import read_request
from shared.jobs.result import ByteRange, JobResult
from shared.jobs.store import JobStore
from shared.rfc3339 import format_timestamp
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import dead_letter_key, inbox_key, input_key, kept_prefix


@dataclass(frozen=True, slots=True)
class InputFile:
    """The image file of a job.

    key: of its object.  bytes: its size.  sha256: of its content, in hexadecimal digits.
    format: None if it is none of an image, as of one that no worker has read.
    """

    key: str
    bytes: int
    sha256: str
    format: str | None


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
    renders: RenderCalls

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
                raise explain_end(job) or build_gone(f"The result of job {job_id} is not stored any more.", job)
        if result.request.tenant != self.tenant:
            raise _unknown(job_id)
        failure = explain_end(Job(result.request, result.state, failure=result.failure))
        if failure is not None:
            raise failure
        return result

    def get_file(self, job_id: str, name: str, options: Mapping[str, object] | None = None) -> ResultFile:
        """Return the file of a format of a job that succeeded; it is rendered now if it was never asked for.

        Args:
            options: fields of FormatOptions that differ from those of the job.

        Raises:
            UnknownJob: the tenant has no such job.
            ImageGone: it is rendered from the image, which is not kept any more.
            RendererUnavailable, TooManyWaiting, GatewayStopping: it cannot be rendered now.
            MaskmillError: as get_result().
        """
        return self._find_file(self.get_result(job_id), name, options or {})

    def get_mask(self, job_id: str, number: int) -> tuple[ResultFile, ByteRange]:
        """Return the file that holds the PNG of one segment's mask, and where.

        Raises:
            UnknownMask: the job has no segment of this number.
            MaskmillError: as get_file().
        """
        result = self.get_result(job_id)
        if not 1 <= number <= len(result.segments):
            raise UnknownMask(f"The job has no segment {number}; it has {len(result.segments)}, counted from 1.")
        file = self._find_file(result, "masks", {})
        if number not in file.ranges:
            raise UnknownMask(f"The job has no mask of segment {number}.")
        return file, file.ranges[number]

    def _find_file(self, result: JobResult, name: str, options: Mapping[str, object]) -> ResultFile:
        job_id = result.request.id
        chosen = replace(result.request.format_options, **options) if options else None  # type: ignore[arg-type]
        try:
            file = find_file(result, get_format(name), bucket=self.bucket, renders=self.renders, options=chosen)
        except ImageGone as error:
            raise ImageGone(str(error), kept_until=self._find_end_of_input(self.get(job_id))) from error
        except Gone as error:
            raise Gone(str(error), kept_until=self._find_end(job_id)) from error
        return replace(file, find_end=partial(self._find_end, job_id))

    def find_input(self, job_id: str) -> InputFile:
        """Return the image file that a job was submitted with, without reading it if its facts are known.

        A stored recut shows that of the job of which it is one.

        Raises:
            UnknownJob: the tenant has no such job, or its image was not fetched from its URL.
            Gone: its image is not kept, or not any more.
            StorageUnavailable: the bucket did not answer.
        """
        job = self.get(job_id)
        if not job.request.input.is_durable:
            raise Gone("The image of a synchronous request is not kept once it is answered.")
        source_id = job.request.recut_of or job.id
        # In this order, because an image is copied to where it is kept before it is deleted from the inbox.
        keys = (inbox_key(source_id), input_key(source_id), dead_letter_key(source_id))
        # Of a canceled or purged job nothing is kept, but its deletion may not be complete.
        is_hidden = job.state is JobState.CANCELED or (source_id != job.id and self._is_purged(source_id))
        for key in () if is_hidden else keys:
            with suppress(NoSuchObject):
                return self._describe_input(key, job.request.image)
        raise self._build_gone_input(job)

    def _describe_input(self, key: str, image: ImageFacts | None) -> InputFile:
        if image is not None:
            self.bucket.get_metadata(key)
            return InputFile(key, image.bytes, image.sha256, image.format)
        content = self.bucket.get(key)
        if not content:
            raise UnknownJob("The image of this job was not fetched from its URL.")
        return InputFile(key, len(content), hashlib.sha256(content).hexdigest(), detect_image_format(content))

    def read_input(self, job_id: str, part: ByteRange | None = None) -> bytes:
        """Return the image file that a job was submitted with, or a part of it; raises as find_input()."""
        for _ in range(2):
            key = self.find_input(job_id).key
            # Between the two it may have been moved.
            with suppress(NoSuchObject):
                if part is None:
                    return self.bucket.get(key)
                return self.bucket.get_range(key, offset=part.offset, length=part.length)
        raise self._build_gone_input(self.get(job_id))

    def _build_gone_input(self, job: Job) -> Gone:
        source = job
        if job.request.recut_of:
            with suppress(UnknownJob):
                source = self.get(job.request.recut_of)
        return Gone(f"The image of job {job.id} is not kept any more.", kept_until=self._find_end_of_input(source))

    def get_hf_array(self, job_id: str) -> bytes:
        """Return the JSON array of the Hugging Face task, of a job that succeeded.

        Raises:
            UnknownJob: the tenant has no such job, or it was submitted without masks.
            MaskmillError: as get_result().
        """
        result = self.get_result(job_id)
        masks = get_format("masks")
        check_requested(result, masks)
        file = find_stored_file(result, masks, bucket=self.bucket)
        return hf_array(result.segments, replace(file, find_end=partial(self._find_end, job_id)).read(), result.masks)

    def _find_end(self, job_id: str) -> str | None:
        """Return until when the result of a job was kept; None if that is not known."""
        return format_end(self.get(job_id))

    def _find_end_of_input(self, job: Job) -> str | None:
        """Return until when the image of a job that has ended was kept; None if that is not known."""
        if job.ended_at is None or job.expires_at is None:
            return None
        if job.state is JobState.CANCELED:
            return format_timestamp(job.ended_at)
        if job.failure is not None and job.failure.code == AttemptsExhausted.code:
            return format_timestamp(job.expires_at)
        return format_timestamp(min(job.ended_at + self.input_ttl_seconds, job.expires_at))

    def _is_purged(self, job_id: str) -> bool:
        # While Redis is unavailable, images are still shown; of a purged job the steward leaves none.
        with suppress(Unavailable):
            return self.jobs.is_purged(job_id)
        return False

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


def _unknown(job_id: str) -> UnknownJob:
    return UnknownJob(f"There is no job {job_id[:64]}, or it has expired.")
