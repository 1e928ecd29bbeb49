"""From a Mask2Former's logits to one label map, on whatever device the logits are.

The results are those of transformers' own post-processing, bit for bit on a CPU, with less work: queries that cannot
show are dropped before anything is resized, and what is resized is resized a band at a time, so memory does not grow
with queries times pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from shared.jobs import SegmentParameters, Subtask
from shared.results import Segment
from worker.segmenter import LabelMap, Segmentation

# The reference takes every mask to this size first, whatever the size of the model's input.
GRID: Final = (384, 384)
# Bytes of one band: small enough for a cache, large enough to keep the threads busy.
BAND_BYTES: Final = 16 * 2**20
# Bytes of what is resized in width only and waits for its bands.
STRIP_BYTES: Final = 256 * 2**20
# Rows of a label map that are renumbered at once, so that their 32-bit copy stays small.
ROWS_AT_ONCE: Final = 512
# torch resizes with other arithmetic, and other last bits, when height + width is not above this.
SMALL_SIDES: Final = 128
# Where an image has fewer pixels, losing planes are resized along with the others.
PIXELS_WORTH_A_CHOICE: Final = 4 * GRID[0] * GRID[1]
# On one thread torch resizes three planes with other arithmetic, and other last bits, than any other number.
ODD_COUNT: Final = 3
# More than what rounding can add to a product or a mean of numbers up to 1.
ROUNDING: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Logits:
    """What the model says of one image.  classes: (Q, C + 1), the last one is nothing; masks: (Q, h, w)."""

    classes: Tensor
    masks: Tensor


@dataclass(frozen=True, slots=True)
class Found:
    """What a label map shows under one number.  A score in [0, 1], or None where there is none (semantic)."""

    label_id: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Painting:
    """label_map: (H, W), 0 = nothing, n = found[n - 1]; what was painted over entirely is found all the same."""

    label_map: Tensor
    found: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class Winners:
    """plane: (H, W), which plane is highest where.  areas: (K,), pixels at which each plane reaches the threshold."""

    plane: Tensor
    areas: Tensor


def painting(logits: Logits, size: tuple[int, int], subtask: Subtask, parameters: SegmentParameters) -> Painting:
    """Return what the reference finds in one image of `size` (height, width) pixels."""
    return PAINTERS[subtask](logits, size, parameters)


def panoptic(logits: Logits, size: tuple[int, int], parameters: SegmentParameters) -> Painting:
    """Give each pixel to the likeliest query; a query that keeps too little of its own area is dropped."""
    scores, labels = logits.classes.softmax(-1).max(-1)  # (Q,)
    keep = labels.ne(logits.classes.shape[-1] - 1) & (scores > parameters.threshold)
    scores, labels = scores[keep], labels[keep]  # (K,)
    if not len(scores):
        return nothing(size, logits.masks.device)
    likely = resized(logits.masks[keep], GRID, among=len(keep)).sigmoid_()  # (K, 384, 384)
    chance, kept = contenders(likely * scores.view(-1, 1, 1), size), len(scores)
    scores, labels = scores[chance], labels[chance]
    won = winners(likely[chance], size, among=kept, weights=scores, at_least=parameters.mask_threshold)
    shares = torch.bincount(won.plane.flatten(), minlength=len(scores)) / won.areas
    # Where nothing reaches the threshold the share is infinite or undefined, and the reference drops the query.
    large = [isfinite(share) and share > parameters.overlap_mask_area_threshold for share in shares.tolist()]
    found = tuple(
        Found(label, round(score, 6))
        for label, score, shown in zip(labels.tolist(), scores.tolist(), large, strict=True)
        if shown
    )
    return Painting(renumbered(won.plane, large), found)


def instance(logits: Logits, size: tuple[int, int], parameters: SegmentParameters) -> Painting:
    """Paint the likeliest pairs of query and class over each other, in the order of the reference."""
    odds = logits.classes.softmax(-1)[:, :-1]  # (Q, C)
    scores, pairs = odds.flatten().topk(len(odds), sorted=False)  # (Q,)
    # A mask's own score is a mean of probabilities, so it raises nothing.
    hopeful = scores * (1 + ROUNDING) >= parameters.threshold
    scores, pairs = scores[hopeful], pairs[hopeful]  # (K,)
    if not len(scores):
        return nothing(size, logits.masks.device)
    masks = resized(logits.masks[pairs // odds.shape[1]], GRID, among=len(odds))  # (K, 384, 384)
    rows, columns = nearest(size, masks.device)
    seen = (masks > 0) & sampled(rows)[:, None] & sampled(columns)  # (K, 384, 384)
    rated = list(zip((scores * mask_scores(masks)).tolist(), seen.flatten(1).any(1).tolist(), strict=True))
    shown = [number for number, (score, visible) in enumerate(rated) if visible and score >= parameters.threshold]
    grid = torch.zeros(GRID, dtype=map_type(len(shown)), device=masks.device)
    for identifier, number in enumerate(shown, start=1):
        grid[masks[number] > 0] = identifier
    labels = (pairs % odds.shape[1]).tolist()
    found = tuple(Found(labels[number], round(rated[number][0], 6)) for number in shown)
    return Painting(grid[rows][:, columns], found)


def semantic(logits: Logits, size: tuple[int, int], parameters: SegmentParameters) -> Painting:
    """Give each pixel to the likeliest class.  There are no scores, and no threshold matters."""
    odds = logits.classes.softmax(-1)[:, :-1]  # (Q, C)
    likely = resized(logits.masks, GRID, among=len(odds)).sigmoid_()  # (Q, 384, 384)
    classes = torch.einsum("bqc, bqhw -> bchw", odds[None], likely[None])[0]  # (C, 384, 384)
    chance = contenders(classes, size)
    won = winners(classes[chance], size, among=len(classes))
    shown = (torch.bincount(won.plane.flatten(), minlength=len(chance)) > 0).tolist()
    found = tuple(Found(label, None) for label, is_shown in zip(chance.tolist(), shown, strict=True) if is_shown)
    return Painting(renumbered(won.plane, shown), found)


Painter = Callable[[Logits, tuple[int, int], SegmentParameters], Painting]
PAINTERS: Final[Mapping[Subtask, Painter]] = {
    Subtask.PANOPTIC: panoptic,
    Subtask.INSTANCE: instance,
    Subtask.SEMANTIC: semantic,
}


def segmentation(label_map: NDArray[np.integer], found: Sequence[Found], names: Mapping[int, str]) -> Segmentation:
    """Measure what a label map shows; it lies on the host, and its values are 0 to len(found)."""
    compact: LabelMap = (
        label_map.astype(np.uint8, copy=False) if len(found) < 256 else label_map.astype(np.uint16, copy=False)
    )
    boxes = ndimage.find_objects(compact, max_label=len(found))
    return Segmentation(
        compact,
        tuple(
            measured(compact, number, thing, names[thing.label_id], box)
            for number, (thing, box) in enumerate(zip(found, boxes, strict=True), start=1)
        ),
    )


def measured(label_map: LabelMap, number: int, thing: Found, name: str, box: tuple[slice, slice] | None) -> Segment:
    """Count one segment's pixels inside its box; without a box it has none."""
    if box is None:
        return Segment(number, name, thing.label_id, thing.score, area=0, bbox=(0, 0, 0, 0))
    rows, columns = box
    return Segment(
        id=number,
        label=name,
        label_id=thing.label_id,
        score=thing.score,
        area=int(np.count_nonzero(label_map[box] == number)),
        bbox=(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start),
    )


def contenders(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the numbers of those planes (K, h, w) that may be the highest somewhere once resized; in order.

    A resized pixel is a mean of four neighbours: it is at most the largest of them, and the winner is at least the
    smallest of any plane's four.  For a small image it costs less to resize them all than to find out.
    """
    if size[0] * size[1] < PIXELS_WORTH_A_CHOICE:
        return torch.arange(len(planes), device=planes.device)
    upper = corners(planes, torch.maximum)
    bar = corners(planes, torch.minimum).amax(0)
    beaten = upper < bar * (1 - ROUNDING) - torch.finfo(planes.dtype).tiny
    return (~beaten).flatten(1).any(1).nonzero().flatten()


def corners(planes: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(K, h, w) -> (K, h - 1, w - 1): the largest or smallest of each four neighbours."""
    pairs = choose(planes[:, 1:], planes[:, :-1])
    return choose(pairs[:, :, 1:], pairs[:, :, :-1])


def winners(
    planes: Tensor,
    size: tuple[int, int],
    *,
    among: int,
    weights: Tensor | None = None,
    at_least: float | None = None,
    strip_bytes: int = STRIP_BYTES,
) -> Winners:
    """Resize planes (K, 384, 384), weigh each, and say which is highest at each pixel; the first one on a tie.

    Args:
        among: how many planes there were before some were left out; see resized().
    """
    best = torch.full(size, -torch.inf, dtype=planes.dtype, device=planes.device)
    plane = torch.zeros(size, dtype=map_type(len(planes) - 1), device=planes.device)
    areas = torch.zeros(len(planes), dtype=torch.int64, device=planes.device)
    strip = max(1, strip_bytes // (planes.element_size() * planes.shape[1] * size[1]))
    for first in range(0, len(planes), strip):
        part = slice(first, first + strip)
        for columns, band in resized_bands(planes[part], size, among=among):
            if weights is not None:
                band *= weights[part].view(-1, 1, 1)
            if at_least is not None:
                areas[part] += (band >= at_least).flatten(1).sum(1)
            value, number = band.max(0)
            higher = value > best[:, columns]
            plane[:, columns] = torch.where(higher, (number + first).to(plane.dtype), plane[:, columns])
            best[:, columns] = torch.where(higher, value, best[:, columns])
    return Winners(plane, areas)


def resized_bands(
    planes: Tensor, size: tuple[int, int], *, among: int, band_bytes: int = BAND_BYTES
) -> Iterator[tuple[slice, Tensor]]:
    """Resize planes (K, 384, 384) bilinearly; yield (columns, (K, H, columns)) from left to right.

    torch mixes the two neighbours in a row first and the two rows then.  To resize the width alone and the height
    after it rounds in the same places, and the second step may be done for a few columns at a time.
    """
    height, width = size
    # With few rows a narrow band would meet torch's other arithmetic.
    least = 1 if height >= SMALL_SIDES else 2 * SMALL_SIDES
    fitting = max(least, band_bytes // (planes.element_size() * len(planes) * height))
    # The arithmetic of the odd count does not come apart into two steps.
    bands = 1 if among == ODD_COUNT else -(-width // fitting)
    strip = planes if bands == 1 else resized(planes, (planes.shape[1], width), among=among)
    for number in range(bands):
        columns = slice(width * number // bands, width * (number + 1) // bands)
        source = strip if bands == 1 else strip[:, :, columns]
        yield columns, resized(source, (height, columns.stop - columns.start), among=among)


def resized(planes: Tensor, size: tuple[int, int], *, among: int) -> Tensor:
    """(K, h, w) -> (K, *size), bilinearly, with the bits that each plane has when `among` are resized at once."""
    count = len(planes)
    together = ODD_COUNT if among == ODD_COUNT else count + (count == ODD_COUNT)
    if together != count:
        planes = planes[torch.arange(together, device=planes.device) % count]
    return interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0][:count]


def nearest(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the row of the grid for each row of the image, (H,), and the same for the columns, (W,)."""
    (height, width), (rows, columns) = size, GRID
    row = torch.arange(rows, dtype=torch.float32, device=device).view(1, 1, rows, 1)
    column = torch.arange(columns, dtype=torch.float32, device=device).view(1, 1, 1, columns)
    return (
        interpolate(row, size=(height, 1), mode="nearest").flatten().long(),
        interpolate(column, size=(1, width), mode="nearest").flatten().long(),
    )


def sampled(sources: Tensor) -> Tensor:
    """Say of each row, or column, of the grid whether any row of the image is taken from it."""
    return torch.bincount(sources, minlength=GRID[0]) > 0


def mask_scores(masks: Tensor) -> Tensor:
    """(K, h, w) logits -> (K,): the mean probability inside each mask."""
    if len(masks) == 1:
        # torch sums a lone row in another order than one of many, and the reference always has many.
        return mask_scores(masks.expand(2, -1, -1))[:1]
    inside = (masks > 0).float().flatten(1)
    return (masks.sigmoid().flatten(1) * inside).sum(1) / (inside.sum(1) + 1e-6)


def renumbered(plane: Tensor, shown: Sequence[bool]) -> Tensor:
    """Number the planes that are shown from 1, in their order; the others become 0."""
    numbers = np.cumsum(shown) * np.asarray(shown)
    table = torch.as_tensor(numbers, device=plane.device).to(map_type(sum(shown)))
    return torch.cat([table[plane[row : row + ROWS_AT_ONCE].int()] for row in range(0, len(plane), ROWS_AT_ONCE)])


def nothing(size: tuple[int, int], device: torch.device) -> Painting:
    return Painting(torch.zeros(size, dtype=torch.uint8, device=device), ())


def map_type(largest: int) -> torch.dtype:
    return torch.uint8 if largest < 256 else torch.int16
