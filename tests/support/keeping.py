"""Segmenters without a model that keep logits of two queries: the halves of every image, or its pixels by turns."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shared.errors import MaskmillError
from tests.support.jobs import FakeSegmenter, segment_checkers
from worker.recut.kept import KeepRule, KeptLogits, RecutModel
from worker.segmenter import ModelImage, Prepared, Segmentation

MODEL = RecutModel({0: "sky", 1: "cat"}, frozenset({0}))
RULE = KeepRule(0.05, 10**6)
# Of (sky, cat, no object): the first query is a sky by 0.95, the second a cat by 0.6.
CLASS_LOGITS = np.log(np.array([[0.95, 0.01, 0.04], [0.1, 0.6, 0.3]], np.float32))
SIDE = 16


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
        found = (segment_checkers(prepared.width, prepared.height) for prepared in batch)
        return [replace(one, kept=keep_checkers(one)) for one in found]


def keep_checkers(segmentation: Segmentation) -> KeptLogits:
    """Return logits of the two segments, at the resolution of the image."""
    classes = np.log(np.array([[0.95, 0.01, 0.04], [0.01, 0.95, 0.04]], np.float32))
    masks = np.stack([np.where(segmentation.label_map == number, 8, -8) for number in (1, 2)]).astype(np.float32)
    return KeptLogits(RULE.floor, classes, np.array([0, 1]), masks)
