"""Models in process, compared with transformers' pipeline on the same weights and images, in the same run.

Both start from decoded images.  The engine returns a label map and measured segments, the pipeline a mask per segment.
The embedded model has trained weights.  The largest Mask2Former (Swin-L) has random weights, with which 15 of its 200
queries are confident.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from shared.jobs.parameters import SegmentParameters
from tests.bench.measurement import Measurement, Workload, device_name, print_progress, time_interleaved
from tests.bench.processor import has_fast_bfloat16
from tests.bench.reference import (
    SWIN_LARGE,
    SWIN_TOY,
    THRESHOLD,
    build_random_model,
    load_embedded_segmenter,
    load_reference_pipeline,
    sample_images,
)
from tests.bench.segmentation import equal_name_share, is_same, segment_images
from worker.engine.execution_plan import ExecutionOptions, plan_execution
from worker.segmenter import Segmentation, Segmenter

PARAMETERS = SegmentParameters(threshold=THRESHOLD)
# Random masks overlap so much that the default overlap threshold would drop every segment.
LENIENT = SegmentParameters(threshold=THRESHOLD, overlap_mask_area_threshold=0.05)
IMAGE_SIZE = (640, 480)


@dataclass(frozen=True, slots=True)
class Subject:
    """One model, loaded in the pipeline and in the engine under several execution plans.

    segmenters: by the name of the plan.
    """

    model: str
    segmenters: Mapping[str, Segmenter]
    pipeline: Any
    parameters: SegmentParameters


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure batches of one image, and for the embedded model one batch of all images as well."""
    images = [image.resize(IMAGE_SIZE) for image in sample_images()[: workload.images]]
    embedded = _load_embedded()
    for batch in dict.fromkeys((1, len(images))):
        yield from _compare_with_pipeline(embedded, images, batch, workload)
    yield from _compare_with_pipeline(_build_random(is_toy=workload.images == 1), images[:1], 1, workload)


def _load_embedded() -> Subject:
    segmenters = {
        "exact": load_embedded_segmenter(ExecutionOptions("exact")),
        "fast": load_embedded_segmenter(ExecutionOptions("fast")),
    }
    return Subject("embedded", segmenters, load_reference_pipeline(segmenters["exact"].device), PARAMETERS)


def _build_random(*, is_toy: bool) -> Subject:
    model = build_random_model(SWIN_TOY if is_toy else SWIN_LARGE)
    options = {"fast": ExecutionOptions("fast", dtype="float32")}
    if has_fast_bfloat16():
        options["fast, bfloat16"] = ExecutionOptions("fast", dtype="bfloat16")
    segmenters = {name: model.segmenter("cpu", plan_execution(one, "cpu")) for name, one in options.items()}
    return Subject(model.architecture.name, segmenters, model.pipeline("cpu"), LENIENT)


def _compare_with_pipeline(
    subject: Subject, images: list[Image.Image], batch: int, workload: Workload
) -> Iterator[Measurement]:
    """Yield one line for each execution plan."""
    parameters = {
        "threshold": subject.parameters.threshold,
        "overlap_mask_area_threshold": subject.parameters.overlap_mask_area_threshold,
    }

    def run_reference() -> list[Any]:
        return list(subject.pipeline(images, batch_size=batch, **parameters))

    for plan, segmenter in subject.segmenters.items():
        print_progress(f"engine: {subject.model}, {plan}, batches of {batch}")

        def run_ours(segmenter: Segmenter = segmenter) -> list[Segmentation]:
            return segment_images(segmenter, images, batch, subject.parameters)

        # One by one: in batches the pipeline itself rounds in other places.
        pairs = list(zip(run_ours(), subject.pipeline(images, **parameters), strict=True))
        times_ms = time_interleaved({"ours": run_ours, "reference": run_reference}, workload)
        settings = {"model": subject.model, "forward": plan, "batch": batch, "photos": len(images)}
        yield Measurement("engine", settings, _figures(times_ms, pairs), device_name(segmenter.device))


def _figures(
    times_ms: Mapping[str, Sequence[float]], pairs: Sequence[tuple[Segmentation, list[Mapping[str, Any]]]]
) -> dict[str, Any]:
    """Return the figures of one comparison.

    Args:
        times_ms: of each round over all images, of `ours` and of the `reference`.
        pairs: both results for each image.
    """
    rates = {name: 1000 * len(pairs) / statistics.median(rounds) for name, rounds in times_ms.items()}
    return {
        "images_per_second": round(rates["ours"], 2),
        "pipeline_images_per_second": round(rates["reference"], 2),
        "ratio": round(rates["ours"] / rates["reference"], 2),
        "equal": all(is_same(*pair) for pair in pairs),
        "equal_pixels": round(statistics.mean(equal_name_share(*pair) for pair in pairs), 6),
        "rounds": len(times_ms["ours"]),
    }
