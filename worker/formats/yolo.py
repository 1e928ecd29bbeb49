"""yolo.txt: the segments as YOLO's segmentation labels.  Pure, no torch.

Source: https://docs.ultralytics.com/datasets/segment/; parts are joined as by merge_multi_segment() of ultralytics.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import STRtree

from shared.jobs.result import Segment
from worker.formats.descriptions import list_visible
from worker.formats.outlines import Outline, Ring
from worker.formats.rendered import Rendered, RenderSource
from worker.formats.simplification import get_outlines


def render(source: RenderSource) -> Rendered:
    """Write a line for each segment that has pixels: the id of its class, then x and y of each corner, from 0 to 1.

    The parts of a segment are joined by lines of no width, because a line is one instance.  Holes are lost.
    """
    height, width = source.segmentation.label_map.shape
    outlines = get_outlines(source)
    lines = [
        _write_line(segment, join_parts(outlines[segment.id]) / (width, height)) for segment in list_visible(source)
    ]
    return Rendered("".join(lines).encode())


def _write_line(segment: Segment, points: NDArray[np.float64]) -> str:
    """Return a line; points are (n, 2), from 0 to 1."""
    return " ".join([str(segment.label_id), *(f"{value:.7g}" for value in points.ravel().tolist())]) + "\n"


def join_parts(outlines: Sequence[Outline]) -> Ring:
    """Return one ring around all parts: along each up to the nearest corner to the next part, and the rest on the way
    back.
    """
    rings = [one.exterior for one in outlines]
    forth: list[Ring] = []
    back: list[Ring] = []
    entry = 0
    for ring, following in pairwise(rings):
        leave, next_entry = _find_nearest(ring, following)
        turned = np.roll(ring, -entry, axis=0)
        steps = (leave - entry) % len(ring)
        forth.append(turned[: steps + 1])
        # The first part is closed by the end of the whole ring.
        back.append(np.concatenate([turned[steps:], turned[:1]]) if back else turned[steps:])
        entry = next_entry
    last = np.roll(rings[-1], -entry, axis=0)
    return np.concatenate([*forth, last, *([last[:1]] if forth else []), *reversed(back)])


def _find_nearest(ring: Ring, other: Ring) -> tuple[int, int]:
    """Return the corner of each of two rings at which they are nearest."""
    tree = STRtree(shapely.points(other))
    (places, nearest), distances = tree.query_nearest(shapely.points(ring), return_distance=True, all_matches=False)
    first = int(np.argmin(distances))
    return int(places[first]), int(nearest[first])
