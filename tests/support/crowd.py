"""A job with many segments, of a segmenter without a model: overlapping discs, each the mask of a query of its own.

Its logits are kept, so that it can be recut: from 0.4 to 0.95 each threshold selects fewer segments.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.local.stack import Stack
from shared.errors import MaskmillError
from shared.jobs.model import ImageFacts, JobRequest
from shared.settings import Settings
from tests.support.environment import get_fields
from tests.support.jobs import FakeSegmenter, ImmediateScheduler, build_request, store_input
from tests.support.worker import build_worker
from worker.engine.postprocessing.types import Budget
from worker.engine.recut import recut
from worker.pipeline.recut import RecutKeeper
from worker.recut.file import RecutData
from worker.recut.kept import KeepRule, KeptLogits, RecutModel
from worker.segmenter import ModelImage, Prepared, Segmentation

COLUMNS, ROWS = 10, 6
COUNT = COLUMNS * ROWS
WIDTH, HEIGHT = 1920, 1080
# Of the network's output, as large as a worker keeps of so many queries.
SIDE = 160
QUERIES, LABELS = 100, 20
LEAST_SCORE, BEST_SCORE = 0.4, 0.95
MODEL = RecutModel({label: f"thing {label}" for label in range(LABELS)}, frozenset())
RULE = KeepRule(0.05, 8 * 10**6)


class CrowdSegmenter(FakeSegmenter):
    """Segments every image alike."""

    def prepare(self, image: ModelImage) -> Prepared:
        return replace(super().prepare(image), keep=image.keep)

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        kept = KeptLogits(RULE.floor, build_class_logits(), np.arange(COUNT), build_masks())
        results: list[Segmentation | MaskmillError] = []
        for item in batch:
            data = RecutData(self.model, self.revision, item.height, item.width, MODEL, kept)
            result = recut(data, item.parameters, (item.height, item.width), Budget())
            results.append(replace(result, kept=kept))
        return results


def build_class_logits() -> NDArray[np.float32]:
    """Return (QUERIES, LABELS + 1): of the first ones each has a label and a score; the others see nothing."""
    probs = np.full((QUERIES, LABELS + 1), 1e-4)
    probs[COUNT:, LABELS] = 1
    numbers = np.arange(COUNT)
    probs[numbers, LABELS] = 1 - np.linspace(LEAST_SCORE, BEST_SCORE, COUNT)
    probs[numbers, numbers % LABELS] = np.linspace(LEAST_SCORE, BEST_SCORE, COUNT)
    return np.log(probs).astype(np.float32)


def build_masks() -> NDArray[np.float32]:
    """Return (COUNT, SIDE, SIDE): discs with soft edges on a grid, which overlap."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    row, column = np.divmod(np.arange(COUNT), COLUMNS)
    across = (x - (column[:, None, None] + 0.5) / COLUMNS) * COLUMNS
    down = (y - (row[:, None, None] + 0.5) / ROWS) * ROWS
    return (16 * (0.6 - np.hypot(across, down))).astype(np.float32)


def build_photo() -> bytes:
    """Return a JPEG of WIDTH x HEIGHT."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([x % 256, y % 256, (x + y) // 12 % 256], axis=-1).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=90)
    return file.getvalue()


def run_crowd(service: Stack, *, tenant: str = "public") -> JobRequest:
    """Run a job with COUNT segments in this process, over the stores of a service; its photo is `crowd.jpg`."""
    photo = build_photo()
    request = build_request(
        tenant=tenant,
        image=ImageFacts("jpeg", WIDTH, HEIGHT, len(photo), sha256(photo).hexdigest()),
        formats=("labels",),
        metadata={"name": "crowd.jpg"},
    )
    request = replace(request, parameters=replace(request.parameters, threshold=LEAST_SCORE - 0.1))
    worker = build_worker(Settings(**get_fields(service.env)))
    worker = replace(worker, batches=ImmediateScheduler(CrowdSegmenter()), recuts=RecutKeeper(MODEL, RULE))
    worker.leases.start()
    try:
        store_input(worker.bucket, request, photo)
        worker.jobs.create(request)
        worker.run(request.id)
    finally:
        worker.leases.stop()
    return request
