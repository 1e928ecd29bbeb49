"""Renders a format of a result that was not asked for at submission, and stores it.  Pure but for the bucket."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from PIL.Image import Image

from shared.errors import BadParameter, Gone, InputMissing, UnknownJob
from shared.formats.derived import FACTS_SUFFIX, read_derived, store_derived
from shared.formats.registry import Format, get_format
from shared.jobs.completion import read_result
from shared.jobs.format_options import FORMAT_OPTIONS, FormatOptions
from shared.jobs.model import JobRequest, JobState, build_file_name
from shared.jobs.render_calls import RenderCall
from shared.jobs.result import JobResult
from shared.jobs.stored_files import read_stored
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import derived_prefix, object_key
from worker.formats.rendered import RenderSource
from worker.pipeline.rendering import Renderer
from worker.segmenter import LabelMap, Segmentation


@dataclass(frozen=True, slots=True)
class FormatHandler:
    """Handles calls of the kind `format`, whose arguments are `format` and `options`.

    load_photo: returns the image of a job, upright RGB and of at most MAX_OVERLAY_SIDE.
    max_files: most derived files that a job may have.
    """

    bucket: Bucket
    renderers: Mapping[str, Renderer]
    load_photo: Callable[[JobRequest], Image]
    max_files: int

    def handle(self, call: RenderCall) -> bytes:
        """Render a format unless it was rendered before; return the document that describes its file.

        Raises:
            UnknownJob: the tenant has no such job.
            Gone: the result is not stored any more.
            ImageGone: the format is rendered from the image, which is not kept any more.
            BadParameter: the job has too many derived files.
            ResultOverwritten: the label map is not the one that the job made.
            RenderingFailed: it cannot be rendered.
            Unavailable: the bucket did not answer, or the photo cannot be decoded now.
        """
        wanted, options = _read_arguments(call)
        result = read_job_result(call, self.bucket)
        derived = read_derived(result, wanted, options, bucket=self.bucket)
        if derived is None:
            self._check_count(result)
            rendered = self.renderers[wanted.name](self._build_source(result, wanted, options))
            derived = store_derived(
                result,
                wanted,
                options,
                rendered.content,
                rendered.ranges,
                media_type=rendered.media_type,
                bucket=self.bucket,
            )
        return derived.to_json()

    def _build_source(self, result: JobResult, wanted: Format, options: FormatOptions) -> RenderSource:
        request = result.request
        return RenderSource(
            Segmentation(read_label_map(result, self.bucket), result.segments),
            self.load_photo(request) if wanted.needs_image else None,
            file_name=build_file_name(request),
            model=request.model,
            options=options,
            georeference=result.georeference,
        )

    def _check_count(self, result: JobResult) -> None:
        prefix = derived_prefix(result.request.id, result.attempt_name)
        count = sum(one.key.endswith(FACTS_SUFFIX) for one in self.bucket.list_objects(prefix))
        if count >= self.max_files:
            raise BadParameter(
                f"This job has {count} files that were rendered later, as many as it may have; "
                "ask for one of them, with the options that it was rendered with."
            )


def read_job_result(call: RenderCall, bucket: Bucket) -> JobResult:
    """Return the result of the job that a call is about.

    Raises:
        UnknownJob: the tenant has no such job.
        Gone: its result is not stored any more.
        StorageUnavailable: the bucket did not answer.
    """
    result = read_result(call.job_id, bucket=bucket)
    if result is None:
        raise Gone(f"The result of job {call.job_id} is not stored any more.")
    if result.request.tenant != call.tenant or result.state is not JobState.SUCCEEDED:
        raise UnknownJob(f"There is no result of job {call.job_id}.")
    return result


def read_label_map(result: JobResult, bucket: Bucket) -> LabelMap:
    """Return the label map of a result, (H, W) uint8 or uint16.

    Raises:
        Gone: it is not stored any more.
        ResultOverwritten: another one is stored in its place.
        StorageUnavailable: the bucket did not answer.
    """
    labels = get_format("labels")
    key = object_key(result.request.id, result.attempt_name, labels.file)
    try:
        png = read_stored(key, result.objects.get(labels.name), bucket=bucket)
    except NoSuchObject as error:
        raise Gone(f"{labels.file} of job {result.request.id} is not stored any more.") from error
    label_map = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if label_map is None or label_map.ndim != 2:
        raise InputMissing(f"{labels.file} of job {result.request.id} cannot be read.")
    return label_map  # type: ignore[return-value]


def _read_arguments(call: RenderCall) -> tuple[Format, FormatOptions]:
    """Read the arguments of a call, which may come from a gateway of another version.

    Raises:
        BadParameter: there is no such format here, or an option is out of range.
    """
    try:
        wanted = get_format(str(call.arguments["format"]))
        return wanted, FORMAT_OPTIONS.validate_python(call.arguments.get("options", {}))
    except (KeyError, ValueError) as error:
        raise BadParameter("The renderer does not know this format or its options; is it of this version?") from error
