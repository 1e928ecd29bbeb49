"""The embedded model in process, beside transformers' pipeline on the same weights and photos, in the same run.

Both begin with decoded photos.  Ours ends with a label map and measured segments, the pipeline with a mask for each.
"""

import statistics
from collections.abc import Iterator
from typing import Any

from PIL import Image

from shared.errors import MaskmillError
from shared.jobs import SegmentParameters
from tests.bench.measuring import Effort, Measurement, device_name, in_turn, progress
from tests.bench.reference import THRESHOLD, embedded_segmenter, four_photos, is_same, reference_pipeline
from worker.segmenter import Segmentation, Segmenter


def run(effort: Effort) -> Iterator[Measurement]:
    """Measure batches of one, and all photos in one batch."""
    segmenter = embedded_segmenter()
    pipeline = reference_pipeline(segmenter.device)
    photos = four_photos()[: effort.photos]
    for batch in dict.fromkeys((1, len(photos))):
        yield _beside(segmenter, pipeline, photos, batch, effort)


def segmented(segmenter: Segmenter, photos: list[Image.Image], batch: int) -> list[Segmentation]:
    """Segment photos in batches.

    Raises:
        MaskmillError: one of them could not be segmented.
    """
    parameters = SegmentParameters(threshold=THRESHOLD)
    done: list[Segmentation] = []
    for first in range(0, len(photos), batch):
        prepared = [segmenter.prepare(photo, parameters) for photo in photos[first : first + batch]]
        for outcome in segmenter.segment(prepared):
            if isinstance(outcome, MaskmillError):
                raise outcome
            done.append(outcome)
    return done


def _beside(segmenter: Segmenter, pipeline: Any, photos: list[Image.Image], batch: int, effort: Effort) -> Measurement:
    def ours() -> list[Segmentation]:
        return segmented(segmenter, photos, batch)

    def reference() -> list[Any]:
        return list(pipeline(photos, batch_size=batch, threshold=THRESHOLD))

    progress(f"engine: batches of {batch}")
    is_equal = all(is_same(one, other) for one, other in zip(ours(), reference(), strict=True))
    taken = in_turn({"ours": ours, "reference": reference}, effort)
    rates = {name: 1000 * len(photos) / statistics.median(rounds) for name, rounds in taken.items()}
    figures = {
        "images_per_second": round(rates["ours"], 2),
        "pipeline_images_per_second": round(rates["reference"], 2),
        "ratio": round(rates["ours"] / rates["reference"], 2),
        "equal": is_equal,
        "rounds": len(taken["ours"]),
    }
    settings = {"batch": batch, "photos": len(photos)}
    return Measurement("engine", settings, figures, device_name(segmenter.device))
