"""Segmenters without a model that keep logits of two queries, and one whose segments are checkers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shared.errors import MaskmillError
from tests.support.jobs import FakeSegmenter, segment_checkers, segment_halves
from worker.recut.kept import KeepRule, KeptLogits, RecutModel
from worker.segmenter import ModelImage, Prepared, Segmentation

MODEL = RecutModel({0: "sky", 1: "cat"}, frozenset({0}))
RULE = KeepRule(0.05, 10**6)
# Of (sky, cat, no object): the first query is a sky by 0.95, the second a cat by 0.6.
CLASS_LOGITS = np.log(np.array([[0.95, 0.01, 0.04], [0.1, 0.6, 0.3]], np.float32))
SIDE = 16
# As large as the planes that post-processing works on, so that no stripe is blurred.
STRIPES_SIDE = 384


class KeepingSegmenter(FakeSegmenter):
    """With `keeps_all` the second rule keeps both queries; otherwise the second one alone has to be asked for."""

    def prepare(self, image: ModelImage) -> Prepared:
        return replace(super().prepare(image), keep=image.keep)

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        return [
            replace(result, kept=keep(item.keep)) if isinstance(result, Segmentation) and item.keep else result
            for result, item in zip(super().segment(batch), batch, strict=True)
        ]


def keep(rule: KeepRule) -> KeptLogits:
    """Return the logits of both queries; without `keeps_all` of three, of which the third is not kept."""
    masks = np.full((2, SIDE, SIDE), -8, np.float32)
    masks[0, : SIDE // 2] = masks[1, SIDE // 2 :] = 8
    classes = CLASS_LOGITS if rule.keeps_all else np.concatenate([CLASS_LOGITS, [[0, 0, 9]]]).astype(np.float32)
    return KeptLogits(rule.floor, classes, np.array([0, 1]), masks)


class CheckerSegmenter(FakeSegmenter):
    """Finds two segments whose pixels take turns, too many corners for polygons of all but small images."""

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        return [segment_checkers(prepared.width, prepared.height) for prepared in batch]


class StripeSegmenter(FakeSegmenter):
    """Finds halves, and keeps logits of narrow diagonal stripes: a recut of a large image has a staircase of each."""

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        classes = np.log(np.array([[0.95, 0.01, 0.04], [0.01, 0.95, 0.04]], np.float32))
        first = np.where(np.indices((STRIPES_SIDE, STRIPES_SIDE)).sum(axis=0) % 4 < 2, 8, -8).astype(np.float32)
        kept = KeptLogits(RULE.floor, classes, np.array([0, 1]), np.stack([first, -first]))
        return [replace(segment_halves(item.width, item.height), kept=kept) for item in batch]
