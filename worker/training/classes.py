"""The classes that the embedded model is taught, under COCO's names, and how many of each it can tell apart at once."""

from collections.abc import Mapping
from typing import Final

QUERIES_PER_CLASS: Final[Mapping[str, int]] = {
    "person": 10,
    "car": 6,
    **dict.fromkeys(("cup", "bowl"), 4),
    **dict.fromkeys(("bird", "boat", "dog", "sheep", "cow", "elephant", "giraffe"), 3),
    **dict.fromkeys(("motorcycle", "airplane", "bus", "train", "truck", "cat", "horse", "bear"), 2),
    **dict.fromkeys(("zebra", "pizza", "umbrella", "couch", "dining table", "tv"), 2),
    **dict.fromkeys(("sky-other-merged", "tree-merged", "grass-merged", "playingfield", "dirt-merged"), 1),
    **dict.fromkeys(("mountain-merged", "sea", "snow", "road", "pavement-merged", "building-other-merged"), 1),
    **dict.fromkeys(("wall-other-merged", "ceiling-merged", "floor-wood", "curtain"), 1),
}
"""A thing has a query for each one of it that can be found in one photo; stuff has one query."""


def query_classes(slots: Mapping[str, int]) -> list[int]:
    """Return the class number of each query; the queries of a class stand together."""
    return [number for number, count in enumerate(slots.values()) for _ in range(count)]
