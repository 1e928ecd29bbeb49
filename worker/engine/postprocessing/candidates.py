"""Find the planes that can be the maximum anywhere after a resize, so that the others need no resize."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from worker.engine.postprocessing.resize import GRID

# Planes examined together: few enough for a cache.
PLANES_PER_CHUNK: Final = 8
# Below this many pixels in all resized planes, resizing every plane costs less than finding the candidates: up to there
# the default budget needs no bands.
MIN_PIXELS_FOR_PRUNING: Final = 112 * GRID[0] * GRID[1]
# More than rounding can add to a product or a mean of numbers up to 1.
ROUNDING_MARGIN: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Candidates:
    """The planes that matter after a resize.

    indices: (n,) of K, ascending: the planes that may be the maximum somewhere.
    columns: (n, w - 1) bool: between which columns of the grid each of them is active, that is, may be the maximum or
        add to its area; None means everywhere.
    """

    indices: Tensor
    columns: Tensor | None


def find_candidates(
    planes: Tensor, size: tuple[int, int], *, weights: Tensor | None = None, area_threshold: float | None = None
) -> Candidates:
    """Find the planes that may be the maximum somewhere after they are resized and weighted.

    A resized pixel is a weighted mean of four neighbours.  So it is at most the largest of them, and the maximum over
    all planes is at least the smallest of the four in any plane.

    Args:
        planes: (K, h, w), values in [0, 1].
        size: (height, width) after the resize.
        weights: (K,), in [0, 1]; None means 1.
        area_threshold: a plane is also active in columns where it may reach this value.
    """
    if len(planes) * size[0] * size[1] < MIN_PIXELS_FOR_PRUNING:
        return Candidates(torch.arange(len(planes), device=planes.device), None)
    bound = planes.new_zeros(planes.shape[1] - 1, planes.shape[2] - 1)
    for chunk in iterate_chunks(planes, weights):
        torch.maximum(bound, pool_2x2(chunk, torch.minimum).amax(0), out=bound)
    bound = subtract_margin(bound)
    may_win, may_count = [], []
    for chunk in iterate_chunks(planes, weights):
        upper = pool_2x2(chunk, torch.maximum)
        may_win.append((upper >= bound).any(1))
        if area_threshold is not None:
            may_count.append(upper.amax(1) >= subtract_margin(bound.new_tensor(area_threshold)))
    winning = torch.cat(may_win)  # (K, w - 1)
    active = winning | torch.cat(may_count) if may_count else winning
    indices = winning.any(1).nonzero().flatten()
    return Candidates(indices, active[indices])


def iterate_chunks(planes: Tensor, weights: Tensor | None) -> Iterator[Tensor]:
    """Yield a few weighted planes at a time."""
    for first in range(0, len(planes), PLANES_PER_CHUNK):
        chunk = slice(first, first + PLANES_PER_CHUNK)
        yield planes[chunk] if weights is None else planes[chunk] * weights[chunk].view(-1, 1, 1)


def subtract_margin(bound: Tensor) -> Tensor:
    """Lower a bound by more than the rounding of sums and products can amount to."""
    return bound * (1 - ROUNDING_MARGIN) - torch.finfo(bound.dtype).tiny


def pool_2x2(planes: Tensor, reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Reduce each 2 x 2 neighbourhood with torch.minimum or torch.maximum: (K, h, w) -> (K, h - 1, w - 1)."""
    pairs = reduce(planes[:, 1:], planes[:, :-1])
    return reduce(pairs[:, :, 1:], pairs[:, :, :-1])
