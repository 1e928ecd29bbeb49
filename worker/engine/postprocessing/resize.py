"""Resize planes (K, h, w) with the bits of transformers' post-processing, whole or one band of columns at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from worker.engine.postprocessing.types import Budget

# transformers first resizes every mask to this (height, width), for any input size of the model.
GRID: Final = (384, 384)
# Up to this sum of output height and width torch uses another kernel, which rounds differently.
MAX_SMALL_SIDES: Final = 128
# On one thread torch resizes exactly three planes with another kernel, which rounds differently.
SPECIAL_PLANE_COUNT: Final = 3


@dataclass(frozen=True, slots=True)
class Band:
    """Some columns of the resized planes.

    columns: the columns of the image.
    indices: (n,), which planes were resized; all others are below the maximum everywhere in these columns.
    values: (n, H, columns).
    """

    columns: slice
    indices: Tensor
    values: Tensor


def resize_planes(planes: Tensor, size: tuple[int, int], *, original_count: int) -> Tensor:
    """Resize bilinearly: (K, h, w) -> (K, *size), float32.

    Args:
        original_count: the number of planes before some were dropped.  Each plane gets the bits that it would have if
            all of them were resized in one call.
    """
    count = len(planes)
    if (count == SPECIAL_PLANE_COUNT) != (original_count == SPECIAL_PLANE_COUNT):
        # Repeat some planes, so that torch uses the kernel that it would use for all of them.
        call_count = SPECIAL_PLANE_COUNT if original_count == SPECIAL_PLANE_COUNT else count + 1
        planes = planes[torch.arange(call_count, device=planes.device) % count]
    return interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0][:count]


def resize_in_bands(
    planes: Tensor,
    size: tuple[int, int],
    *,
    original_count: int,
    active_columns: Tensor | None = None,
    budget: Budget | None = None,
) -> Iterator[Band]:
    """Resize planes (K, 384, 384) bilinearly; yield bands of columns from left to right.

    torch interpolates between the two neighbours in a row first and between the two rows second.  Resizing the width
    alone and the height afterwards rounds in the same places.  So the second step may be done for a few columns at a
    time, and there only for the planes that are active.

    Args:
        original_count: see resize_planes().
        active_columns: (K, 383) bool, see Candidates; None means that all planes are active everywhere.
    """
    (height, width), budget = size, budget or Budget()
    all_planes = torch.arange(len(planes), device=planes.device)
    band_count = count_bands(planes, size, budget)
    is_direct = planes.element_size() * len(planes) * height * width <= budget.direct_bytes
    if not is_separable(original_count) or band_count == 1 or is_direct:
        yield Band(slice(0, width), all_planes, resize_planes(planes, size, original_count=original_count))
        return
    strip = resize_planes(planes, (planes.shape[1], width), original_count=original_count)
    for number in range(band_count):
        columns = slice(width * number // band_count, width * (number + 1) // band_count)
        indices = (
            all_planes if active_columns is None else all_planes[find_active_planes(active_columns, columns, width)]
        )
        if len(indices):
            source = strip[:, :, columns] if len(indices) == len(planes) else strip[indices, :, columns]
            band_size = height, columns.stop - columns.start
            yield Band(columns, indices, resize_planes(source, band_size, original_count=original_count))


def count_bands(planes: Tensor, size: tuple[int, int], budget: Budget) -> int:
    """Return the number of bands of `budget.band_bytes` in which planes (K, h, w) are resized to size."""
    height, width = size
    column_bytes = planes.element_size() * len(planes) * height
    # With few rows a narrow band would be small enough for torch's other kernel.
    min_columns = 1 if height >= MAX_SMALL_SIDES else 2 * MAX_SMALL_SIDES
    return -(-width // max(min_columns, budget.band_bytes // column_bytes))


def is_separable(original_count: int) -> bool:
    """Tell whether resizing the width first and the height second gives the same bits for this number of planes."""
    return original_count != SPECIAL_PLANE_COUNT or torch.get_num_threads() > 1


def find_active_planes(active_columns: Tensor, columns: slice, width: int) -> Tensor:
    """Tell for each plane whether it is active in the grid columns that these image columns are computed from.

    Args:
        active_columns: (K, 383) bool, see Candidates.
        columns: of an image that is `width` pixels wide.

    Returns:
        (K,) bool.
    """
    scale, last = GRID[1] / width, active_columns.shape[1] - 1
    # One more column on both sides, so that rounding cannot exclude one.
    low = int((columns.start + 0.5) * scale - 0.5) - 1
    high = int((columns.stop - 0.5) * scale - 0.5) + 1
    return active_columns[:, min(max(low, 0), last) : high + 1].any(1)


def nearest_indices(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the grid's row for each row of the image, (H,) int64, and its column for each column, (W,) int64."""
    (height, width), (rows, columns) = size, GRID
    row = torch.arange(rows, dtype=torch.float32, device=device).view(1, 1, rows, 1)
    column = torch.arange(columns, dtype=torch.float32, device=device).view(1, 1, 1, columns)
    return (
        interpolate(row, size=(height, 1), mode="nearest").flatten().long(),
        interpolate(column, size=(1, width), mode="nearest").flatten().long(),
    )
