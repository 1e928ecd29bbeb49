"""From outlines to pixels, by the even-odd rule at the centres of pixels; for tests of formats."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def cover_centres(rings: Iterable[object], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return (H, W): the pixels whose centre an odd number of rings is around.

    Args:
        rings: each (n, 2), x and y in pixels, 0 at the left or upper edge of the image; not closed, or closed.
        shape: height and width.
    """
    return _wind(rings, shape) % 2 == 1


def cover_any(rings: Iterable[object], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return (H, W): the pixels whose centre at least one of these rings is around, all of which have one direction."""
    return _wind(rings, shape) != 0


def _wind(rings: Iterable[object], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return (H, W): how often the rings wind around the centre of each pixel."""
    crossings = np.zeros((shape[0], shape[1] + 1), np.int64)
    for ring in rings:
        _count_crossings(np.asarray(ring, float).reshape(-1, 2), crossings)
    return np.cumsum(crossings, axis=1)[:, :-1]


def _count_crossings(ring: NDArray[np.float64], crossings: NDArray[np.int64]) -> None:
    """Count each edge's crossing of the middle of a row, at the first pixel whose centre is right of it; up is -1."""
    height, width = crossings.shape[0], crossings.shape[1] - 1
    starts, ends = ring, np.roll(ring, -1, axis=0)
    upper, lower = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    firsts = np.clip(np.ceil(upper - 0.5), 0, height).astype(int)
    counts = np.clip(np.ceil(lower - 0.5), 0, height).astype(int) - firsts
    edges = np.repeat(np.arange(len(ring)), counts)
    rows = np.arange(edges.size) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(firsts, counts)
    (x0, y0), (x1, y1) = starts[edges].T, ends[edges].T
    x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    np.add.at(crossings, (rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)), np.where(y1 > y0, 1, -1))
