"""What the service is measured against: transformers' own pipeline on the same weights, and photos for both."""

import warnings
from pathlib import Path
from typing import Any

import transformers
from PIL import Image

from shared.catalogue import EMBEDDED
from tests.photos import astronaut, cat, coffee, grey
from worker import embedded_model
from worker.embedded_model.efficientnet_lite import register
from worker.loading import load_segmenter, quieten
from worker.segmenter import Segmentation, Segmenter

# Lower than the default, so that there is more to find.
THRESHOLD = 0.5


def four_photos() -> list[Image.Image]:
    return [astronaut(), cat(), coffee(), grey().convert("RGB")]


def embedded_segmenter() -> Segmenter:
    """Load the embedded model as the worker does."""

    def nothing_to_fetch(source: str, _into: Path) -> None:
        raise AssertionError(f"{source} is not embedded")

    return load_segmenter("embedded", public_id=EMBEDDED, device="auto", cache=Path(), download=nothing_to_fetch)


def reference_pipeline(device: str) -> Any:
    """Load the embedded model as anybody would who has transformers alone."""
    quieten()
    register()
    with warnings.catch_warnings():
        # Advice on the speed of a CUDA kernel that is not used.
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        return transformers.pipeline("image-segmentation", model=str(embedded_model.FOLDER), device=device)


def is_same(ours: Segmentation, reference: list[dict[str, Any]]) -> bool:
    """Tell whether labels, scores, order and every pixel are those of the pipeline."""
    import numpy as np

    labels = [(segment.label, segment.score) for segment in ours.segments]
    return labels == [(one["label"], one["score"]) for one in reference] and all(
        np.array_equal(ours.label_map == number, np.asarray(one["mask"]) > 0)
        for number, one in enumerate(reference, start=1)
    )
