"""The connected parts of a label map's segments: neighbours by an edge, not by a corner.  Pure, no torch."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from worker.segmenter import LabelMap


@dataclass(frozen=True, slots=True)
class Components:
    """The component of each pixel, found through the runs of equal values in the rows of a label map.

    A segment has at least one component; background has components too, which nothing reads.

    starts: (R,) int64, the first pixel of each run, as an index into the flattened map.
    values: (R,) the value of each run.
    numbers: (R,) int64, the component of each run, from 1; 0 where the value is 0.
    """

    starts: NDArray[np.int64]
    values: NDArray[np.generic]
    numbers: NDArray[np.int64]

    @classmethod
    def from_label_map(cls, label_map: LabelMap) -> Self:
        """Find the components of a label map (H, W): linear in its pixels, and n log n in its runs."""
        width = label_map.shape[1]
        starts = _find_starts(label_map)
        values = label_map.ravel()[starts]
        pairs = np.concatenate([_match(starts, values, step, label_map.size) for step in (-width, width)], axis=1)
        links = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), shape=(starts.size, starts.size))
        _, numbers = connected_components(links, directed=False)
        return cls(starts, values, np.where(values != 0, numbers.astype(np.int64) + 1, 0))

    def find_runs(self, pixels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the run of each pixel, which is an index into the flattened map."""
        return np.searchsorted(self.starts, pixels, side="right") - 1


def _find_starts(label_map: LabelMap) -> NDArray[np.int64]:
    """Return where a run starts in the flattened map; each row starts one."""
    is_start = np.ones(label_map.shape, bool)
    np.not_equal(label_map[:, 1:], label_map[:, :-1], out=is_start[:, 1:])
    return np.flatnonzero(is_start)


def _match(starts: NDArray[np.int64], values: NDArray[np.generic], step: int, size: int) -> NDArray[np.int64]:
    """Return (2, n): the runs of equal value of which one's first pixel is a neighbour of the other, `step` away.

    Of two runs that touch, one begins where the other has a pixel.
    """
    neighbours = starts + step
    runs = np.flatnonzero((neighbours >= 0) & (neighbours < size) & (values != 0))
    others = np.searchsorted(starts, neighbours[runs], side="right") - 1
    is_equal = values[runs] == values[others]
    return np.stack([runs[is_equal], others[is_equal]])
