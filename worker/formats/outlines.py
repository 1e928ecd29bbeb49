"""The outlines of all segments of a label map, along the edges of its pixels.  Pure, no torch.

An outline runs through corners of pixels, so a polygon covers exactly the pixels of its part of a segment.  Each
4-connected part of a segment is one polygon with its holes.  Parts that touch at a corner are polygons that touch
there, and where a part touches itself at a corner, its exterior and its holes touch: no ring meets itself, and every
polygon is valid in the sense of OGC's Simple Features.

The cost is linear in the pixels of the map, however many segments it has, and n log n in the corners of the outlines,
of which there is a limit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import TooManyCorners
from worker.formats.components import Components
from worker.segmenter import LabelMap

# Points of a label map at which outlines turn, each a corner of one to four of them.  Thirty smooth segments of 12
# megapixels have a seventh of it; noise has more from half a megapixel on, and every other cost grows with them.  No
# setting: a file is made by a worker or by a renderer, once, and whether there is one must not depend on which.
MAX_TURNS: Final = 500_000

Ring = NDArray[np.int64]
"""(n, 2): x and y of each corner, once; 0 is the left or upper edge of the image.  Edges are horizontal or vertical."""


@dataclass(frozen=True, slots=True)
class Outline:
    """One connected part of a segment.

    exterior: clockwise as seen on a screen.  holes: counterclockwise.
    """

    exterior: Ring
    holes: tuple[Ring, ...] = ()


@dataclass(frozen=True, slots=True)
class _Corners:
    """Corners of outlines, one for each turn of a ring, by arrays of one length.

    part: the component that the ring belongs to.
    goes_right, goes_down: whether the two edges at the corner lead right (else left) and down (else up).
    leaves_level: whether a ring, with its part on the right hand, leaves the corner along the horizontal edge.
    """

    part: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    goes_right: NDArray[np.bool_]
    goes_down: NDArray[np.bool_]
    leaves_level: NDArray[np.bool_]


def trace_outlines(label_map: LabelMap) -> Mapping[int, tuple[Outline, ...]]:
    """Return the outlines of each segment of a label map (H, W) by its id, from the top; empty segments have none.

    Raises:
        TooManyCorners: they turn at more than MAX_TURNS points; found in one pass over the pixels.
    """
    x, y = _find_meeting_points(label_map)
    components = Components.from_label_map(label_map)
    rings: dict[int, list[Ring]] = {}
    for part, ring in _follow(_find_corners(label_map, components, x, y)):
        rings.setdefault(part, []).append(ring)
    outlines: dict[int, list[Outline]] = {}
    ids = dict(zip(components.numbers.tolist(), components.values.tolist(), strict=True))
    # No hole of a part begins as far up as its exterior does.
    for part, (exterior, *holes) in rings.items():
        outlines.setdefault(ids[part], []).append(Outline(exterior, tuple(holes)))
    return {number: tuple(found) for number, found in sorted(outlines.items())}


def list_rings(outlines: Sequence[Outline]) -> Iterator[Ring]:
    """Yield each exterior, followed by its holes."""
    for one in outlines:
        yield one.exterior
        yield from one.holes


def measure_area(ring: Ring) -> float:
    """Return the area of a ring, negative if it is a hole."""
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _find_corners(label_map: LabelMap, components: Components, x: NDArray[np.int64], y: NDArray[np.int64]) -> _Corners:
    """Return the turns of all outlines, which lie at these points.

    Around each point where four pixels meet, each of the four quadrants is either the only one of its part, or the only
    one that is missing between its two neighbours: both give a corner whose edges lead along that quadrant.
    """
    quadrants = _find_parts(label_map, components, x, y)  # (2, 2, n): below, right
    found = []
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        here, beside, above = quadrants[down, right], quadrants[down, 1 - right], quadrants[1 - down, right]
        across = quadrants[1 - down, 1 - right]
        is_alone = (here != 0) & (here != beside) & (here != above) & (here != across)
        is_missing = (beside != 0) & (beside == above) & (beside != here)
        for is_corner, part, is_inside in ((is_alone, here, True), (is_missing, beside, False)):
            chosen = np.flatnonzero(is_corner)
            # To the right with the part below, or to the left with the part above.
            leaves_level = bool(right) == (bool(down) == is_inside)
            flags = (np.full(chosen.size, flag) for flag in (bool(right), bool(down), leaves_level))
            found.append((part[chosen], x[chosen], y[chosen], *flags))
    return _Corners(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _find_meeting_points(label_map: LabelMap) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return x and y of the points between pixels at which an outline may turn.

    Raises:
        TooManyCorners: there are more than MAX_TURNS.
    """
    padded = np.pad(label_map, 1)
    differs_beside = padded[:, 1:] != padded[:, :-1]
    differs_below = padded[1:] != padded[:-1]
    turns = (differs_beside[1:] | differs_beside[:-1]) & (differs_below[:, 1:] | differs_below[:, :-1])
    if (count := np.count_nonzero(turns)) > MAX_TURNS:
        raise TooManyCorners(
            f"The segments have {count} corners, and at most {MAX_TURNS} are drawn as polygons; ask for a format of "
            "masks, such as `labels` or `coco`."
        )
    y, x = np.nonzero(turns)
    return x.astype(np.int64), y.astype(np.int64)


def _find_parts(
    label_map: LabelMap, components: Components, x: NDArray[np.int64], y: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return (2, 2, n): the components of the four pixels at each point, 0 outside; first above and below, then left
    and right.
    """
    height, width = label_map.shape
    parts = np.zeros((2, 2, x.size), np.int64)
    for down in (0, 1):
        for right in (0, 1):
            row, column = y - 1 + down, x - 1 + right
            is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            runs = components.find_runs(row[is_inside] * width + column[is_inside])
            parts[down, right, is_inside] = components.numbers[runs]
    return parts


def _follow(corners: _Corners) -> Iterator[tuple[int, Ring]]:
    """Yield each ring and its part, from the top.

    Noise has hundreds of thousands of rings, so arrays are made for all of them together.
    """
    level, upright = _pair_level(corners), _pair_upright(corners)
    members, firsts = _list_members(corners, upright[level])
    if not members.size:
        return
    # Each corner in `members` leads along a horizontal edge to one that is not.
    every = np.stack([members, level[members]], axis=1).ravel()
    points = np.stack([corners.x[every], corners.y[every]], axis=1)
    starts = (2 * firsts).tolist()
    parts = corners.part[members[firsts]].tolist()
    for part, start, end in zip(parts, starts, [*starts[1:], len(points)], strict=True):
        yield part, points[start:end]


def _list_members(corners: _Corners, following: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return every second corner of all rings, one ring after the other, and where in these each ring begins.

    Args:
        following: the next but one corner of each.
    """
    after = following.tolist()
    is_open = bytearray(corners.leaves_level.astype(np.uint8).tobytes())
    order = np.lexsort((corners.x, corners.y))
    members: list[int] = []
    firsts: list[int] = []
    for first in order[corners.leaves_level[order]].tolist():
        if is_open[first]:
            firsts.append(len(members))
        here = first
        while is_open[here]:
            is_open[here] = 0
            members.append(here)
            here = after[here]
    return np.array(members, np.int64), np.array(firsts, np.int64)


def _pair_level(corners: _Corners) -> NDArray[np.int64]:
    """Return the corner at the other end of each corner's horizontal edge."""
    return _pair((corners.goes_right, corners.x, corners.y, corners.part))


def _pair_upright(corners: _Corners) -> NDArray[np.int64]:
    """Return the corner at the other end of each corner's vertical edge."""
    return _pair((corners.goes_down, corners.y, corners.x, corners.part))


def _pair(keys: tuple[NDArray[np.generic], ...]) -> NDArray[np.int64]:
    """Pair corners that are neighbours in the order of these keys, the last of which comes first.

    On one line the corners of a part begin and end its edges by turns; where an edge ends at the point at which the
    next one begins, the end comes first.
    """
    order = np.lexsort(keys).reshape(-1, 2)
    partners = np.empty(order.size, np.int64)
    partners[order[:, 0]], partners[order[:, 1]] = order[:, 1], order[:, 0]
    return partners
