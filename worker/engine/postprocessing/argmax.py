"""The argmax over planes at the image's size, without all resized planes in memory at once."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worker.engine.postprocessing.label_map import label_map_dtype
from worker.engine.postprocessing.resize import resize_in_bands
from worker.engine.postprocessing.types import Budget


@dataclass(frozen=True, slots=True)
class ArgmaxResult:
    """The index of the maximum at each pixel, and the area of each plane.

    index_map: (H, W), uint8 or int16, values in [0, K).
    areas: (K,) int64, the number of pixels at which each plane reaches the area threshold.
    """

    index_map: Tensor
    areas: Tensor


def argmax_resized(
    planes: Tensor,
    size: tuple[int, int],
    *,
    original_count: int,
    weights: Tensor | None = None,
    area_threshold: float | None = None,
    active_columns: Tensor | None = None,
    budget: Budget | None = None,
) -> ArgmaxResult:
    """Resize planes (K, 384, 384), weight each, and find the maximum at each pixel; the first one on a tie.

    Args:
        size: (height, width) of the image.
        original_count: the number of planes before some were dropped; see resize_planes().
        weights: (K,); None means 1.
        area_threshold: the weighted value from which a pixel counts as area; None leaves all areas 0.
        active_columns: (K, 383) bool, see Candidates.
    """
    budget = budget or Budget()
    index_map = torch.zeros(size, dtype=label_map_dtype(len(planes) - 1), device=planes.device)
    areas = torch.zeros(len(planes), dtype=torch.int64, device=planes.device)
    strip = max(1, budget.strip_bytes // (planes.element_size() * planes.shape[1] * size[1]))
    # If all planes fit into one strip, each band holds every plane and needs no running maximum.
    best = torch.full(size, -torch.inf, dtype=planes.dtype, device=planes.device) if strip < len(planes) else None
    for first in range(0, len(planes), strip):
        part = slice(first, first + strip)
        active = None if active_columns is None else active_columns[part]
        for band in resize_in_bands(
            planes[part], size, original_count=original_count, active_columns=active, budget=budget
        ):
            indices, values = band.indices + first, band.values
            if weights is not None:
                values *= weights[indices].view(-1, 1, 1)
            if area_threshold is not None:
                areas[indices] += count_true(values >= area_threshold)
            highest, position = values.max(0)
            update_maximum(index_map, best, band.columns, highest, indices.to(index_map.dtype)[position])
    return ArgmaxResult(index_map, areas)


def update_maximum(index_map: Tensor, best: Tensor | None, columns: slice, highest: Tensor, winner: Tensor) -> None:
    """Merge the maximum of some planes in some columns into the running maximum, in place.

    Args:
        index_map, best: (H, W), index and value of the maximum so far; best is None if there are no earlier planes.
        highest, winner: (H, columns), value and index of the maximum of these planes.
    """
    if best is None:
        index_map[:, columns] = winner
        return
    is_higher = highest > best[:, columns]
    index_map[:, columns] = torch.where(is_higher, winner, index_map[:, columns])
    best[:, columns] = torch.where(is_higher, highest, best[:, columns])


def count_true(masks: Tensor) -> Tensor:
    """Count the pixels of each mask: (K, h, w) bool -> (K,) int64."""
    if masks.device.type == "cpu":
        # torch would first copy the masks to 64-bit integers.
        return torch.tensor([int(np.count_nonzero(mask)) for mask in masks.numpy()])
    return masks.flatten(1).sum(1)
