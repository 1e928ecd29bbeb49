"""The trained classes, under COCO's names, and the number of queries of each."""

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
"""A thing class has one query for each instance that can be found in one image; a stuff class has one query."""


def query_classes(queries_per_class: Mapping[str, int]) -> list[int]:
    """Return the class index of each query; the queries of a class are contiguous, in the order of the classes."""
    return [number for number, count in enumerate(queries_per_class.values()) for _ in range(count)]
