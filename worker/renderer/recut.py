"""The call `recut`: segments from the kept logits of a job, of the labels that the job was submitted for.

torch is imported at the first recut, so that a renderer without any stays small.
"""

import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256

import numpy as np
import PIL
from PIL.Image import Image

import shared
from shared.errors import Canceled
from shared.formats.registry import Format, get_format
from shared.jobs.completion import store_result
from shared.jobs.model import Failure, JobRequest, JobState, build_file_name
from shared.jobs.parameters import SegmentParameters
from shared.jobs.provenance import Provenance
from shared.jobs.recut_call import InlineFile, RecutArguments, RecutDocument
from shared.jobs.render_calls import RenderCall
from shared.jobs.result import JobResult, StoredFile
from shared.jobs.store import JobStore
from shared.memory import RECUT_KEPT_BYTES, keep_freed_memory
from shared.storage.bucket import Bucket
from shared.storage.keys import object_key
from worker.formats.rendered import Rendered, RenderSource, render_or_omit
from worker.pipeline.rendering import Renderer
from worker.recut.file import RecutData
from worker.renderer.formats import read_job_result
from worker.renderer.tenant_lock import TenantLock
from worker.segmenter import Segmentation
from worker.selection import select_labels

# The longest side of a preview; a full size that is no longer counts as one, too.
PREVIEW_SIDE = 1024
TEXT_TYPES = ("text/", "application/json", "application/geo+json", "application/xml")


class Recutter:
    """Post-processes logits on a CPU.  Thread-safe.

    One recut at a time, by turns of the tenants: it occupies all its threads, and two together would only take the
    memory of two.  Previews have a turn of their own, as they take little memory, and a person waits for them.
    """

    def __init__(self, *, threads: int) -> None:
        """Take the number of torch's threads."""
        self._threads = threads
        self._lock = TenantLock()
        self._preview_lock = TenantLock()
        self._is_prepared = False

    def recut(
        self,
        data: RecutData,
        parameters: SegmentParameters,
        size: tuple[int, int],
        *,
        tenant: str,
        check: Callable[[], None],
    ) -> Segmentation:
        """Segment an image of a tenant again; other arguments and errors are those of worker.engine.recut.recut().

        Args:
            check: called when it is this recut's turn; an error that it raises ends it.
        """
        lock = self._preview_lock if max(size) <= PREVIEW_SIDE else self._lock
        with lock.hold(tenant):
            check()
            import torch

            from worker.engine.postprocessing.types import Budget
            from worker.engine.recut import recut

            if not self._is_prepared:
                torch.set_num_threads(self._threads)
                # A slider sends many recuts in a row; a renderer that is idle gives the memory back.
                keep_freed_memory(RECUT_KEPT_BYTES)
                self._is_prepared = True
            return recut(data, parameters, size, Budget())


@dataclass(frozen=True, slots=True)
class Recut:
    """A recut on its way into the answer.

    source: the result of the job of which it is one.
    files: rendered so far, by format.
    omitted: formats that cannot hold it, and why.
    timings_ms: milliseconds by stage.
    """

    source: JobResult
    arguments: RecutArguments
    data: RecutData
    segmentation: Segmentation
    files: dict[str, Rendered] = field(default_factory=dict)
    omitted: dict[str, Failure] = field(default_factory=dict)
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecutHandler:
    """Handles calls of the kind `recut`.

    load_photo: returns the image of a job, upright RGB and of at most MAX_OVERLAY_SIDE.
    load_logits: returns the logits of a job, which are not to be changed.
    is_wanted: tells whether a request still waits for a call.
    """

    jobs: JobStore
    bucket: Bucket
    renderers: Mapping[str, Renderer]
    load_photo: Callable[[JobRequest], Image]
    load_logits: Callable[[JobResult], RecutData]
    is_wanted: Callable[[RenderCall], bool]
    recutter: Recutter

    def __call__(self, call: RenderCall) -> bytes:
        """Return a RecutDocument as JSON.

        Raises:
            UnknownJob: the job was purged meanwhile.
            ImageGone: a format is rendered from the image, which is not kept any more.
            RecutGone, RecutUnsupported, ThresholdBelowFloor, AllQueriesNeeded, BadParameter: as worker.engine.recut.
            Canceled: no request waits for it any more.
            Unavailable: a store did not answer.
        """
        recut = self._recut(call)
        for name in recut.arguments.formats:
            self._check_wanted(call, recut.arguments)
            with time_stage(recut.timings_ms, name):
                self._render(recut, name)
        if recut.arguments.request:
            with time_stage(recut.timings_ms, "store"):
                self._store(recut, recut.arguments.request, f"1-{call.id}")
        return build_document(recut).to_json()

    def _recut(self, call: RenderCall) -> Recut:
        timings_ms: dict[str, float] = {}
        arguments = RecutArguments.from_wire(call.arguments)
        with time_stage(timings_ms, "fetch"):
            source = read_job_result(call, self.bucket)
            data = self.load_logits(source)
        with time_stage(timings_ms, "recut"):
            size = fit(data.height, data.width, arguments.max_side)
            check = partial(self._check_wanted, call, arguments)
            whole = self.recutter.recut(data, arguments.parameters, size, tenant=call.tenant, check=check)
            segmentation = select_labels(whole, source.request.labels)
        return Recut(source, arguments, data, segmentation, timings_ms=timings_ms)

    def _render(self, recut: Recut, name: str) -> None:
        source = self._build_source(recut, get_format(name))
        rendered = render_or_omit(partial(self.renderers[name], source))
        if isinstance(rendered, Failure):
            recut.omitted[name] = rendered
        else:
            recut.files[name] = rendered

    def _check_wanted(self, call: RenderCall, arguments: RecutArguments) -> None:
        """Raise Canceled if nothing is stored and no request waits any more."""
        if arguments.request is None and not self.is_wanted(call):
            raise Canceled("Its client has gone.")

    def _build_source(self, recut: Recut, wanted: Format) -> RenderSource:
        request = recut.arguments.request or recut.source.request
        return RenderSource(
            recut.segmentation,
            self._load_photo(recut) if wanted.needs_image else None,
            file_name=build_file_name(request),
            model=request.model,
            options=request.format_options,
            # That of a smaller label map is another one.
            georeference=recut.source.georeference if recut.arguments.max_side is None else None,
        )

    def _load_photo(self, recut: Recut) -> Image:
        """Return the image, at most as large as the label map."""
        photo = self.load_photo(recut.source.request)
        height, width = recut.segmentation.label_map.shape
        return photo.resize((width, height)) if photo.width > width or photo.height > height else photo

    def _store(self, recut: Recut, request: JobRequest, attempt_name: str) -> None:
        """Store a recut as a job of its own: its files, then its result, then its record; safe to repeat."""
        objects = {
            name: self._put(request.id, attempt_name, get_format(name), file) for name, file in recut.files.items()
        }
        result = JobResult(
            request,
            JobState.SUCCEEDED,
            1,
            attempt_name,
            model_revision=recut.data.revision,
            segments=recut.segmentation.segments,
            masks=recut.files["masks"].ranges if "masks" in recut.files else {},
            objects=objects,
            omitted=recut.omitted,
            timings_ms=recut.timings_ms,
            georeference=recut.source.georeference,
            provenance=describe(recut.source),
        )
        # An earlier call under the same idempotency key may have stored its own.
        final = store_result(result, bucket=self.bucket)
        self.jobs.record_succeeded(request, timings_ms=final.timings_ms, attempt_name=final.attempt_name)

    def _put(self, job_id: str, attempt_name: str, output: Format, rendered: Rendered) -> StoredFile:
        key, content = object_key(job_id, attempt_name, output.file), rendered.content
        etag = self.bucket.put(key, content, content_type=rendered.media_type or output.media_type)
        return StoredFile(len(content), etag, sha256(content).hexdigest(), rendered.media_type)


def describe(source: JobResult) -> Provenance | None:
    """Return the provenance of a recut: that of its job, and the versions of what made it from there."""
    if source.provenance is None:
        return None
    import torch

    libraries = {
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "maskmill": shared.__version__,
    }
    return replace(source.provenance, recut_libraries=libraries)


def fit(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """Return (height, width) in pixels, reduced in proportion so that the longer side has at most `max_side`."""
    longest = max(height, width)
    if max_side is None or longest <= max_side:
        return height, width
    return max(1, round(height * max_side / longest)), max(1, round(width * max_side / longest))


def build_document(recut: Recut) -> RecutDocument:
    height, width = recut.segmentation.label_map.shape
    return RecutDocument(
        recut.source.request.model,
        recut.data.revision,
        width,
        height,
        recut.segmentation.segments,
        {name: build_inline(get_format(name), rendered) for name, rendered in recut.files.items()},
        recut.timings_ms,
        recut.omitted,
    )


def build_inline(output: Format, rendered: Rendered) -> InlineFile:
    media_type = rendered.media_type or output.media_type
    if media_type.startswith(TEXT_TYPES):
        return InlineFile(media_type, text=rendered.content.decode())
    return InlineFile(media_type, base64=b64encode(rendered.content).decode())


@contextmanager
def time_stage(timings_ms: dict[str, float], name: str) -> Iterator[None]:
    """Record how long the block takes."""
    start = time.perf_counter()
    try:
        yield
    finally:
        timings_ms[name] = round(1000 * (time.perf_counter() - start), 2)
