"""Models in process, beside transformers' pipeline on the same weights and photos, in the same run.

Both begin with decoded photos.  Ours ends with a label map and measured segments, the pipeline with a mask for each.
The embedded model has trained weights; the shape of Mask2Former's largest has made-up ones, 15 of its 200 queries sure.
"""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from shared.errors import MaskmillError
from shared.jobs.parameters import SegmentParameters
from tests.bench.measuring import Effort, Measurement, device_name, in_turn, progress
from tests.bench.reference import (
    SWIN_LARGE,
    SWIN_TOY,
    THRESHOLD,
    embedded_segmenter,
    four_photos,
    is_same,
    reference_pipeline,
    untrained,
)
from worker.engine.execution_plan import ExecutionOptions, has_fast_bfloat16, plan_execution
from worker.segmenter import Segmentation, Segmenter

PARAMETERS = SegmentParameters(threshold=THRESHOLD)
# Masks that mean nothing overlap so much that the usual threshold would leave nothing to render.
LENIENT = replace(PARAMETERS, overlap_mask_area_threshold=0.05)
PHOTO_SIZE = (640, 480)


@dataclass(frozen=True, slots=True)
class Bench:
    """One model, in our engine in several ways and in the pipeline."""

    model: str
    segmenters: Mapping[str, Segmenter]
    pipeline: Any
    parameters: SegmentParameters


def run(effort: Effort) -> Iterator[Measurement]:
    """Measure one photo at a time, and the embedded model with all photos in one batch as well."""
    photos = [photo.resize(PHOTO_SIZE) for photo in four_photos()[: effort.photos]]
    embedded = _embedded()
    for batch in dict.fromkeys((1, len(photos))):
        yield from _beside(embedded, photos, batch, effort)
    yield from _beside(_large(is_toy=effort.photos == 1), photos[:1], 1, effort)


def segmented(
    segmenter: Segmenter, photos: list[Image.Image], batch: int, parameters: SegmentParameters = PARAMETERS
) -> list[Segmentation]:
    """Segment photos in batches.

    Raises:
        MaskmillError: one of them could not be segmented.
    """
    done: list[Segmentation] = []
    for first in range(0, len(photos), batch):
        prepared = [segmenter.prepare(photo, parameters) for photo in photos[first : first + batch]]
        for outcome in segmenter.segment(prepared):
            if isinstance(outcome, MaskmillError):
                raise outcome
            done.append(outcome)
    return done


def _embedded() -> Bench:
    segmenters = {
        "exact": embedded_segmenter(ExecutionOptions("exact")),
        "fast": embedded_segmenter(ExecutionOptions("fast")),
    }
    return Bench("embedded", segmenters, reference_pipeline(segmenters["exact"].device), PARAMETERS)


def _large(*, is_toy: bool) -> Bench:
    made = untrained(SWIN_TOY if is_toy else SWIN_LARGE)
    ways = {"fast": ExecutionOptions("fast", dtype="float32")}
    if has_fast_bfloat16("cpu"):
        ways["fast, bfloat16"] = ExecutionOptions("fast", dtype="bfloat16")
    segmenters = {name: made.segmenter("cpu", plan_execution(options, "cpu")) for name, options in ways.items()}
    return Bench(made.shape.name, segmenters, made.pipeline("cpu"), LENIENT)


def _beside(bench: Bench, photos: list[Image.Image], batch: int, effort: Effort) -> Iterator[Measurement]:
    """Yield a line for each of our ways."""
    wanted = {
        "threshold": bench.parameters.threshold,
        "overlap_mask_area_threshold": bench.parameters.overlap_mask_area_threshold,
    }

    def reference() -> list[Any]:
        return list(bench.pipeline(photos, batch_size=batch, **wanted))

    for way, segmenter in bench.segmenters.items():
        progress(f"engine: {bench.model}, {way}, batches of {batch}")

        def ours(segmenter: Segmenter = segmenter) -> list[Segmentation]:
            return segmented(segmenter, photos, batch, bench.parameters)

        pairs = list(zip(ours(), reference(), strict=True))
        taken = in_turn({"ours": ours, "reference": reference}, effort)
        rates = {name: 1000 * len(photos) / statistics.median(rounds) for name, rounds in taken.items()}
        figures = {
            "images_per_second": round(rates["ours"], 2),
            "pipeline_images_per_second": round(rates["reference"], 2),
            "ratio": round(rates["ours"] / rates["reference"], 2),
            "equal": all(is_same(*pair) for pair in pairs),
            "equal_pixels": round(statistics.mean(shown_alike(*pair) for pair in pairs), 6),
            "rounds": len(taken["ours"]),
        }
        settings = {"model": bench.model, "forward": way, "batch": batch, "photos": len(photos)}
        yield Measurement("engine", settings, figures, device_name(segmenter.device))


def shown_alike(ours: Segmentation, reference: list[Mapping[str, Any]]) -> float:
    """Return the share of pixels to which both give the same label."""
    labels = np.array(["", *(segment.label for segment in ours.segments)], dtype=object)[ours.label_map]
    theirs = np.full(labels.shape, "", dtype=object)
    for segment in reference:
        theirs[np.asarray(segment["mask"]) > 0] = segment["label"]
    return float((labels == theirs).mean())
