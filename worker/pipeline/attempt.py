"""The work of one attempt: fetch, decode, segment, render, store.  No Celery here, and no torch."""

from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import PIL
import structlog
from PIL.Image import Image, Resampling, fromarray

import shared
from shared.errors import Canceled, DeadlineExceeded
from shared.formats.huggingface import hf_array
from shared.formats.registry import get_format
from shared.images.georeference import Georeference
from shared.images.geotiff import read_georeference
from shared.jobs.model import Failure, JobRequest, JobState, build_file_name
from shared.jobs.payloads import PayloadStore
from shared.jobs.provenance import Execution, Provenance
from shared.jobs.result import JobRecut, JobResult
from shared.redis_clock import RedisClock
from worker.batching.local import Batches
from worker.batching.scheduler import Ticket
from worker.decoding.decoded_image import DecodedImage
from worker.decoding.request import ImageRequest
from worker.formats.drawing import MAX_OVERLAY_SIDE
from worker.formats.rendered import Rendered, RenderSource, render_or_omit
from worker.pipeline.inputs import InputReader
from worker.pipeline.leases import Lease
from worker.pipeline.publication import Publication
from worker.pipeline.recut import RecutKeeper
from worker.pipeline.rendering import Renderer
from worker.pipeline.stopwatch import Stopwatch
from worker.recut.kept import KeptLogits
from worker.segmenter import ModelImage, Resize, Segmentation
from worker.selection import select_labels

log = structlog.get_logger()


class ImageDecoder(Protocol):
    """Decodes images within limits; implemented by worker.decoding.decoders.Decoders."""

    def decode(
        self, data: bytes, request: ImageRequest, *, on_slow: Callable[[], object], check: Callable[[], object]
    ) -> DecodedImage:
        """Decode an image; the caller releases it.

        Args:
            on_slow: called at most once, if decoding takes long.
            check: called now and then; an error of it ends the decoding.
        """


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What a host needs to know of the model.

    revision: for the results.
    resize: of every image; None if the model prepares images of any size itself.
    can_scale_decode: whether a JPEG may be decoded at a fraction of its size.
    execution: how the engine runs it.
    """

    revision: str
    resize: Resize | None
    can_scale_decode: bool = False
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A segmented image on its way to the bucket.

    request: with the facts of the image, which that of the claim may lack.
    image: for the formats that need it, upright RGB and of at most MAX_OVERLAY_SIDE.
    batch_size: images that were on the device together.
    georeference: where on Earth the image lies; None if its file does not say.
    orientation: of the image file, by its EXIF.
    kept: the logits for a recut; apart from the segmentation, of which a part may be shown.
    files: rendered so far, by format.
    omitted: formats that cannot hold the result, and why.
    shared: what several formats are made from; see RenderSource.
    """

    lease: Lease
    request: JobRequest
    image: Image | None
    segmentation: Segmentation
    watch: Stopwatch
    batch_size: int = 0
    georeference: Georeference | None = None
    orientation: int = 1
    kept: KeptLogits | None = None
    files: dict[str, Rendered] = field(default_factory=dict)
    omitted: dict[str, Failure] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class SubmittedImage:
    """A decoded image that is queued for the device.

    request: with the facts of the image.
    image, georeference, orientation: as in Attempt.
    """

    request: JobRequest
    image: Image | None
    georeference: Georeference | None
    orientation: int
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class AttemptRunner:
    """worker: public id of the worker, for the results."""

    inputs: InputReader
    decoders: ImageDecoder
    model: ModelInput
    batches: Batches
    renderers: Mapping[str, Renderer]
    payloads: PayloadStore
    clock: RedisClock
    publication: Publication
    max_pixels: int
    max_side: int
    recuts: RecutKeeper = field(default_factory=RecutKeeper)
    worker: str = ""

    def segment(self, lease: Lease) -> Attempt:
        """Fetch and segment the image of a job.

        Raises:
            Canceled: the lease was lost.
            DeadlineExceeded: the deadline has passed; `stage` of its details is the one that the job had reached.
            Unavailable: Redis or the bucket did not answer.
            MaskmillError: any other error of this image.
        """
        request = lease.claim.request
        watch = Stopwatch({"queue": max(0.0, round(1000 * (lease.claim.now - request.created_at), 2))})
        with self.batches.announce():
            submitted = self._submit(lease, watch)
        log.info("job_started", job_id=request.id, attempt=lease.claim.attempt_name, priority=request.priority)
        ticket = submitted.ticket
        segmentation = wait_for_ticket(ticket)
        watch.timings_ms["batch"] = round(ticket.wait_ms, 2)
        watch.timings_ms["device"] = round(ticket.device_ms, 2)
        self._check(lease, "device")
        return Attempt(
            lease,
            submitted.request,
            submitted.image,
            select_labels(segmentation, request.labels),
            watch,
            ticket.batch_size,
            submitted.georeference,
            submitted.orientation,
            kept=segmentation.kept,
        )

    def reply(self, attempt: Attempt) -> None:
        """Give the waiting caller the Hugging Face array.

        Raises:
            Canceled: the lease was lost.
            StoreUnavailable: Redis did not answer.
        """
        masks = self._render("masks", attempt)
        with attempt.watch.stage("reply"):
            array = hf_array(attempt.segmentation.segments, masks.content, masks.ranges)
            self.payloads.put_reply(attempt.request.id, array)

    def store(self, attempt: Attempt) -> JobResult:
        """Render and store the formats of the request under this attempt; the job is not completed yet.

        Of a format that cannot hold the result, the reason is recorded in place of a file.

        Raises:
            Canceled: the lease was lost; objects that were stored already stay unreferenced.
            DeadlineExceeded: as segment().
            StorageUnavailable: the bucket did not answer in time.
        """
        request, claim = attempt.request, attempt.lease.claim
        attempt.lease.enter("render")
        for name in request.formats:
            self._render_or_omit(name, attempt)
            self._check(attempt.lease, "render")
        attempt.lease.enter("store")
        with attempt.watch.stage("store"):
            files = {name: attempt.files[name] for name in request.formats if name not in attempt.omitted}
            objects = {name: self.publication.store_file(attempt.lease, name, file) for name, file in files.items()}
        self._check(attempt.lease, "store")
        return JobResult(
            request,
            JobState.SUCCEEDED,
            claim.attempt,
            claim.attempt_name,
            model_revision=self.model.revision,
            segments=attempt.segmentation.segments,
            masks=files["masks"].ranges if "masks" in files else {},
            objects=objects,
            omitted=attempt.omitted,
            timings_ms=attempt.watch.timings_ms,
            batch_size=attempt.batch_size,
            georeference=attempt.georeference,
            recut=self._store_recut(attempt),
            provenance=self._describe(attempt),
        )

    def _describe(self, attempt: Attempt) -> Provenance:
        """Return what an attempt was computed by."""
        execution = self.model.execution
        libraries = {**execution.libraries, "pillow": PIL.__version__, "maskmill": shared.__version__}
        return Provenance(replace(execution, libraries=libraries), attempt.orientation, self.worker)

    def _store_recut(self, attempt: Attempt) -> JobRecut:
        height, width = attempt.segmentation.label_map.shape
        with attempt.watch.stage("recut"):
            return self.recuts.store(
                attempt.kept, attempt.lease, (height, width), self.model.revision, self.publication
            )

    def _submit(self, lease: Lease, watch: Stopwatch) -> SubmittedImage:
        """Fetch and decode a job's image, and queue it for the device."""
        lease.enter("fetch")
        with watch.stage("fetch"):
            request, data = self.inputs.fetch(lease)
        self._check(lease, "fetch")
        lease.enter("decode")
        with watch.stage("decode"):
            wanted = self._request_image(request)
            decoded = self.decoders.decode(data, wanted, on_slow=lease.lend_slot, check=lease.check)
        with decoded:
            self._check(lease, "decode")
            ticket = self.batches.submit(
                ModelImage(
                    decoded.model_input.pixels,
                    decoded.height,
                    decoded.width,
                    request.parameters,
                    self.recuts.choose_rule(request),
                ),
                priority=request.priority,
                deadline=None if request.deadline_at is None else self.clock.to_monotonic(request.deadline_at),
                is_alone=lease.claim.is_isolated,
            )
            image = fromarray(decoded.image.pixels.copy()) if decoded.image else None
        lease.call_when_lost(ticket.cancel)
        lease.enter("device")
        return SubmittedImage(request, image, read_georeference(data), decoded.orientation, ticket)

    def _check(self, lease: Lease, stage: str) -> None:
        """End an attempt between two stages if its lease is lost, or the deadline of its job has passed.

        The caller of a synchronous request has its own clock, and may have the reply already.

        Raises:
            Canceled: the lease is lost.
            DeadlineExceeded: the deadline has passed.
        """
        lease.check()
        request = lease.claim.request
        if request.deadline_at is not None and not request.wants_reply and self.clock.now() > request.deadline_at:
            raise DeadlineExceeded("The deadline has passed.", stage=stage)

    def _request_image(self, request: JobRequest) -> ImageRequest:
        """Return what the model and the formats of a job need of its image."""
        resize = self.model.resize
        needs_image = any(get_format(name).needs_image for name in request.formats)
        return ImageRequest(
            max_pixels=self.max_pixels,
            max_side=self.max_side,
            resize=((resize.width, resize.height), Resampling(resize.resample)) if resize else None,
            image_side=MAX_OVERLAY_SIDE if needs_image else None,
            is_scaled=self.model.can_scale_decode,
        )

    def _render_or_omit(self, name: str, attempt: Attempt) -> None:
        rendered = render_or_omit(partial(self._render, name, attempt))
        if isinstance(rendered, Failure):
            log.info("format_omitted", job_id=attempt.request.id, format=name, code=rendered.code)
            attempt.omitted[name] = rendered

    def _render(self, name: str, attempt: Attempt) -> Rendered:
        """Render a format, unless it is rendered already.

        Raises:
            Canceled: the lease was lost.
            Unrepresentable: the format cannot hold the result.
        """
        if name not in attempt.files:
            attempt.lease.check()
            with attempt.watch.stage(name):
                attempt.files[name] = self.renderers[name](build_source(attempt))
        return attempt.files[name]


def build_source(attempt: Attempt) -> RenderSource:
    """Return what the files of an attempt are rendered from."""
    request = attempt.request
    return RenderSource(
        attempt.segmentation,
        attempt.image,
        file_name=build_file_name(request),
        model=request.model,
        options=request.format_options,
        georeference=attempt.georeference,
        shared=attempt.shared,
    )


def wait_for_ticket(ticket: Ticket) -> Segmentation:
    """Return the segmentation of a ticket, or raise its error.

    Raises:
        Canceled: the ticket was canceled, because the lease was lost.
        DeadlineExceeded: the deadline passed before the image reached the device.
    """
    try:
        return ticket.result()
    except DeadlineExceeded as error:
        raise DeadlineExceeded(str(error), stage="batch") from error
    except CancelledError as error:
        raise Canceled("The job was canceled, or another worker has it.") from error
