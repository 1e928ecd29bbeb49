"""The work of one attempt: fetch, decode, prepare, segment, render, store.  No Celery here, and no torch."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import structlog
from PIL.Image import Image

from shared.errors import Canceled
from shared.formats.huggingface import hf_array
from shared.formats.registry import get_format
from shared.jobs.model import JobRequest, JobState
from shared.jobs.payloads import PayloadStore
from shared.jobs.result import JobResult
from shared.storage.bucket import Bucket
from shared.storage.keys import object_key
from worker.batching.local import Batches
from worker.batching.scheduler import Ticket
from worker.formats.rendered import Rendered
from worker.pipeline.decode import decode
from worker.pipeline.inputs import InputReader
from worker.pipeline.leases import Lease
from worker.pipeline.rendering import Renderer
from worker.segmenter import ModelImage, Resize, Segmentation

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Milliseconds by stage."""

    timings_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings_ms[name] = round(1000 * (time.perf_counter() - start), 2)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A segmented image on its way to the bucket.  files: rendered so far, by format."""

    lease: Lease
    image: Image
    segmentation: Segmentation
    watch: Stopwatch
    files: dict[str, Rendered] = field(default_factory=dict)

    @property
    def request(self) -> JobRequest:
        return self.lease.claim.request


@dataclass(frozen=True, slots=True)
class AttemptRunner:
    inputs: InputReader
    model_revision: str
    resize: Resize | None
    batches: Batches
    renderers: Mapping[str, Renderer]
    payloads: PayloadStore
    bucket: Bucket
    max_pixels: int

    def segment(self, lease: Lease) -> Attempt:
        """Fetch and segment the image of a job.

        Raises:
            Canceled: the lease was lost.
            DeadlineExceeded: the deadline passed before the image reached the device.
            Unavailable: Redis or the bucket did not answer.
            MaskmillError: any other error of this image.
        """
        request = lease.claim.request
        watch = Stopwatch({"queue": max(0.0, round(1000 * (time.time() - request.created_at), 2))})
        with self.batches.announce():
            image, ticket = self._submit(lease, watch)
        log.info("job_started", job_id=request.id, attempt=lease.claim.attempt, priority=request.priority)
        segmentation = wait_for_ticket(ticket)
        watch.timings_ms["batch"] = round(ticket.wait_ms, 2)
        watch.timings_ms["device"] = round(ticket.device_ms, 2)
        lease.check()
        return Attempt(lease, image, segmentation, watch)

    def reply(self, attempt: Attempt) -> None:
        """Give the waiting caller the Hugging Face array.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        masks = self._render("masks", attempt)
        with attempt.watch.stage("reply"):
            array = hf_array(attempt.segmentation.segments, masks.content, masks.ranges)
            self.payloads.put_reply(attempt.request.id, array)

    def store(self, attempt: Attempt) -> JobResult:
        """Render and store the formats of the request under this attempt; the job is not completed yet.

        Raises:
            Canceled: the lease was lost; objects that were stored already stay unreferenced.
            StorageUnavailable: the bucket did not answer.
        """
        request, number = attempt.request, attempt.lease.claim.attempt
        for name in request.formats:
            self._render(name, attempt)
        attempt.lease.check()
        with attempt.watch.stage("store"):
            for name in request.formats:
                output = get_format(name)
                key = object_key(request.id, number, output.file)
                self.bucket.put(key, attempt.files[name].content, content_type=output.media_type)
        return JobResult(
            request,
            JobState.SUCCEEDED,
            number,
            model_revision=self.model_revision,
            segments=attempt.segmentation.segments,
            masks=attempt.files["masks"].ranges if "masks" in request.formats else {},
            timings_ms=attempt.watch.timings_ms,
        )

    def _submit(self, lease: Lease, watch: Stopwatch) -> tuple[Image, Ticket]:
        """Fetch, decode and prepare a job's image, and queue it for the device."""
        request = lease.claim.request
        with watch.stage("fetch"):
            data = self.inputs.fetch(request)
        with watch.stage("decode"):
            image = decode(data, max_pixels=self.max_pixels)
        with watch.stage("prepare"):
            resized = np.asarray(self.resize.apply(image) if self.resize else image)
        lease.check()
        left = None if request.deadline_at is None else request.deadline_at - time.time()
        deadline = None if left is None else time.monotonic() + left
        ticket = self.batches.submit(
            ModelImage(resized, image.height, image.width, request.parameters),
            priority=request.priority,
            deadline=deadline,
        )
        lease.call_when_lost(ticket.cancel)
        return image, ticket

    def _render(self, name: str, attempt: Attempt) -> Rendered:
        """Render a format, unless it is rendered already."""
        if name not in attempt.files:
            with attempt.watch.stage(name):
                attempt.files[name] = self.renderers[name](attempt.segmentation, attempt.image)
        return attempt.files[name]


def wait_for_ticket(ticket: Ticket) -> Segmentation:
    """Return the segmentation of a ticket, or raise its error.

    Raises:
        Canceled: the ticket was canceled, because the lease was lost.
    """
    try:
        return ticket.result()
    except CancelledError as error:
        raise Canceled("The job was canceled, or another worker has it.") from error
