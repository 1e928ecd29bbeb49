"""How many pixels of each segment change when its outlines do, in time that grows with outlines and not with areas."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.formats.outlines import Outline, Ring, list_rings

# Where a pixel is looked at, from its middle: x and y.  Programs that fill polygons differ in what they do
# with a pixel whose middle lies on an edge, and some round corners to a fifth of a pixel; so a few places are tried.
_OFFSETS: Final = ((0.0, 0.0), (0.1, 0.1), (-0.1, -0.1), (0.1, -0.1), (-0.1, 0.1))


def count_changed_pixels(before: Sequence[Sequence[Outline]], after: Sequence[Sequence[Outline]]) -> NDArray[np.int64]:
    """Return for each segment how many pixels are inside its outlines in one of the two lists only.

    What an odd number of rings of both lists together is around, has changed.
    """
    pairs = list(zip(before, after, strict=True))
    rings = [ring for pair in pairs for outlines in pair for ring in list_rings(outlines)]
    owners = np.repeat(
        np.arange(len(pairs)), [sum(1 for outlines in pair for _ in list_rings(outlines)) for pair in pairs]
    )
    edges = _list_edges(rings, owners)
    found: NDArray[np.int64] = np.max([_count_inside(*edges, len(pairs), offset) for offset in _OFFSETS], axis=0)
    return found


def _list_edges(
    rings: Sequence[Ring], owners: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (n, 2) starts and ends of all edges that are not horizontal, and the owner of each."""
    starts = np.concatenate([np.zeros((0, 2), np.int64), *rings])
    ends = np.concatenate([np.zeros((0, 2), np.int64), *(np.roll(ring, -1, axis=0) for ring in rings)])
    edge_owners = np.repeat(owners, [len(ring) for ring in rings])
    is_crossing = starts[:, 1] != ends[:, 1]
    return starts[is_crossing], ends[is_crossing], edge_owners[is_crossing]


def _count_inside(
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    owners: NDArray[np.int64],
    size: int,
    offset: tuple[float, float],
) -> NDArray[np.int64]:
    """Return the pixels that an odd number of each owner's rings is around; crossings of a row begin and end them."""
    upper, lower = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    x_middle, y_middle = 0.5 + offset[0], 0.5 + offset[1]
    firsts = np.ceil(upper - y_middle).astype(np.int64)
    counts = np.ceil(lower - y_middle).astype(np.int64) - firsts
    edges = np.repeat(np.arange(len(starts)), counts)
    rows = np.arange(edges.size) + np.repeat(firsts - np.cumsum(counts) + counts, counts)
    (x0, y0), (x1, y1) = starts[edges].T, ends[edges].T
    columns = np.ceil(x0 + (rows + y_middle - y0) * (x1 - x0) / (y1 - y0) - x_middle).astype(np.int64)
    # In the order of owners, rows and columns, two neighbours are the ends of a span.
    height, width = int(rows.max(initial=0)) + 1, int(columns.max(initial=0)) + 1
    places = np.sort((owners[edges] * height + rows) * width + columns)
    spans = places[1::2] - places[::2]
    return np.bincount(places[::2] // (height * width), spans, minlength=size).astype(np.int64)
