"""Operations on label maps (H, W) that lie on the device."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from worker.engine.postprocessing.types import LabelMapResult

# Rows of a label map that are renumbered at once, so that their 32-bit copy stays small.
ROWS_PER_CHUNK: Final = 512


def label_map_dtype(max_value: int) -> torch.dtype:
    """Return the smallest dtype for labels up to this value; torch's uint16 lacks most operations, so int16."""
    return torch.uint8 if max_value < 256 else torch.int16


def empty_result(size: tuple[int, int], device: torch.device) -> LabelMapResult:
    """Return a label map of zeros and no labels."""
    return LabelMapResult(torch.zeros(size, dtype=torch.uint8, device=device), ())


def assign_segment_ids(labels: Sequence[int], is_shown: Sequence[bool], fused: frozenset[int]) -> list[int]:
    """Number the shown masks 1, 2, ... in their order and the others 0; masks of one fused label share an id.

    Args:
        labels: label id of each mask.
        is_shown: whether each mask becomes a segment.
        fused: label ids of which all masks become one segment.

    >>> assign_segment_ids([7, 3, 7, 3], [True, False, True, True], frozenset({7}))
    [1, 0, 1, 2]
    """
    ids: list[int] = []
    fused_ids: dict[int, int] = {}
    last = 0
    for label, shown in zip(labels, is_shown, strict=True):
        if not shown:
            ids.append(0)
        elif label in fused_ids:
            ids.append(fused_ids[label])
        else:
            last += 1
            ids.append(last)
            if label in fused:
                fused_ids[label] = last
    return ids


def renumber(label_map: Tensor, ids: Sequence[int]) -> Tensor:
    """Replace each value n of a map (H, W) by ids[n]; the result is uint8 or int16."""
    table = torch.as_tensor(ids, device=label_map.device).to(label_map_dtype(max(ids)))
    chunks = [label_map[row : row + ROWS_PER_CHUNK] for row in range(0, len(label_map), ROWS_PER_CHUNK)]
    return torch.cat([table[chunk.int()] for chunk in chunks])


def count_pixels(label_map: Tensor, value_count: int) -> Tensor:
    """Count the pixels of each value of a map (H, W): (value_count,) int64; all values are below value_count."""
    return torch.bincount(label_map.flatten(), minlength=value_count)
