"""The runs of each segment's pixels, found in one pass over the label map for all segments.  Pure, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.jobs.result import Segment
from worker.formats.rendered import RenderSource


@dataclass(frozen=True, slots=True)
class Runs:
    """The pixels of one segment, as (n,) int64 indices into the flattened map.  Each run lies within a row.

    starts, ends: of the runs, in order; `ends` are exclusive.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def count(self, size: int) -> NDArray[np.int64]:
        """Return the lengths of the runs outside and inside the segment by turns, the first outside, which may be 0.

        Args:
            size: of the flattened map; the lengths add up to it.
        """
        is_start = np.append(True, self.starts[1:] != self.ends[:-1])[: self.starts.size]
        is_end = np.append(is_start[1:], True)[: self.ends.size]
        edges = np.stack([self.starts[is_start], self.ends[is_end]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=size)
        return counts if counts[-1] or counts.size == 1 else counts[:-1]

    def crop(self, width: int, box: tuple[int, int, int, int]) -> "Runs":
        """Return the same pixels as indices into a box (x, y, width, height) around them.

        Args:
            width: of the label map.
        """
        left, top, box_width, _ = box
        rows, columns = np.divmod(self.starts, width)
        starts = (rows - top) * box_width + columns - left
        return Runs(starts, starts + self.ends - self.starts)


NO_RUNS = Runs(np.zeros(0, np.int64), np.zeros(0, np.int64))


def get_runs(source: RenderSource, segment: Segment) -> Runs:
    """Return the runs of a segment in the rows of the label map."""
    runs = source.share("runs", lambda: find_runs(source.segmentation.label_map))
    return runs.get(segment.id, NO_RUNS)


def find_runs(label_map: NDArray[np.generic]) -> Mapping[int, Runs]:
    """Return the runs of each segment of a label map (H, W) by its id; empty segments have none."""
    is_start = np.ones(label_map.shape, bool)
    np.not_equal(label_map[:, 1:], label_map[:, :-1], out=is_start[:, 1:])
    starts = np.flatnonzero(is_start)
    ends = np.append(starts[1:], label_map.size)
    values = label_map.ravel()[starts]
    order = np.argsort(values, kind="stable")
    numbers, firsts = np.unique(values[order], return_index=True)
    groups = np.split(order, firsts[1:])
    return {
        int(number): Runs(starts[group], ends[group]) for number, group in zip(numbers, groups, strict=True) if number
    }
