"""From a Mask2Former's logits to one label map, on whatever device the logits are.

The results are those of transformers' own post-processing, bit for bit on a CPU, with less work: queries that cannot
show are dropped before anything is resized, and what is resized is resized a band at a time, so memory does not grow
with queries times pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, log
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from shared.jobs.parameters import SegmentParameters, Subtask
from shared.jobs.result import Segment
from worker.segmenter import LabelMap, Segmentation

# The reference takes every mask to this size first, whatever the size of the model's input.
GRID: Final = (384, 384)
# What one image may take, if nobody says otherwise; see Budget.
BUDGET_BYTES: Final = 256 * 2**20
# Planes that are looked at together when losers are sought: few enough for a cache.
PLANES_AT_ONCE: Final = 8
# Rows of a label map that are renumbered at once, so that their 32-bit copy stays small.
ROWS_AT_ONCE: Final = 512
# torch resizes with other plan, and other last bits, when height + width is not above this.
SMALL_SIDES: Final = 128
# Where planes have fewer pixels together once resized, losing ones are resized along with the others.
PIXELS_WORTH_A_CHOICE: Final = 64 * GRID[0] * GRID[1]
# On one thread torch resizes three planes with other plan, and other last bits, than any other number.
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


@dataclass(frozen=True, slots=True)
class Contest:
    """Which planes matter once they are resized.

    numbers: (n,) of K, in order, those that may be the highest somewhere.
    columns: (n, w - 1), between which columns of the grid each of them may win or count; None means everywhere.
    """

    numbers: Tensor
    columns: Tensor | None


@dataclass(frozen=True, slots=True)
class Band:
    """values: (n, H, columns) of the resized planes `numbers` (n,); the others are nowhere the highest here."""

    columns: slice
    numbers: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class Budget:
    """How the memory for one image is divided.

    The larger part is for what is resized in width only and waits for its bands.  A band is small enough for a cache,
    and large enough to keep the threads busy.  Planes that fit in a quarter as they are need no bands at all.
    """

    total_bytes: int = BUDGET_BYTES

    @property
    def strip_bytes(self) -> int:
        return self.total_bytes // 2

    @property
    def direct_bytes(self) -> int:
        return self.total_bytes // 4

    @property
    def band_bytes(self) -> int:
        return self.total_bytes // 16


@dataclass(frozen=True, slots=True)
class Task:
    """How to paint one image: its size (height, width), what was asked for, and what the model's classes are.

    stuff: the classes of which fuse_stuff makes one segment each.
    """

    size: tuple[int, int]
    parameters: SegmentParameters
    budget: Budget = field(default_factory=Budget)
    stuff: frozenset[int] = frozenset()


def painting(logits: Logits, subtask: Subtask, task: Task) -> Painting:
    """Return what the reference finds in one image, unless the parameters ask for more than it knows of."""
    return PAINTERS[subtask](logits, task)


def panoptic(logits: Logits, task: Task) -> Painting:
    """Give each pixel to the likeliest query; a query that keeps too little of its own area is dropped."""
    size, parameters = task.size, task.parameters
    scores, labels = logits.classes.softmax(-1).max(-1)  # (Q,)
    keep = labels.ne(logits.classes.shape[-1] - 1) & (scores > parameters.threshold)
    scores, labels = scores[keep], labels[keep]  # (K,)
    if not len(scores):
        return nothing(size, logits.masks.device)
    likely = resized(logits.masks[keep], GRID, among=len(keep)).sigmoid_()  # (K, 384, 384)
    contest = contenders(likely, size, weights=scores, at_least=parameters.mask_threshold)
    chance, kept = contest.numbers, len(scores)
    scores, labels = scores[chance], labels[chance]
    likely = likely if len(chance) == kept else likely[chance]
    won = winners(
        likely,
        size,
        among=kept,
        weights=scores,
        at_least=parameters.mask_threshold,
        contested=contest.columns,
        budget=task.budget,
    )
    shares = counted(won.plane, len(scores)) / won.areas
    # Where nothing reaches the threshold the share is infinite or undefined, and the reference drops the query.
    large = [isfinite(share) and share > parameters.overlap_mask_area_threshold for share in shares.tolist()]
    numbers = numbered(labels.tolist(), large, task.stuff if parameters.fuse_stuff else frozenset())
    best: dict[int, Found] = {}
    for number, label, score in zip(numbers, labels.tolist(), scores.tolist(), strict=True):
        if number and (number not in best or score > (best[number].score or 0.0)):
            best[number] = Found(label, score)
    found = tuple(Found(one.label_id, round(one.score or 0.0, 6)) for one in best.values())
    return Painting(renumbered(won.plane, numbers), found)


def numbered(labels: Sequence[int], shown: Sequence[bool], fused: frozenset[int]) -> list[int]:
    """Number what is shown from 1 in its order, and what is not with 0; one number for all of a fused class."""
    numbers: list[int] = []
    number_of: dict[int, int] = {}
    last = 0
    for label, is_shown in zip(labels, shown, strict=True):
        is_known = is_shown and label in number_of
        last += is_shown and not is_known
        numbers.append(number_of[label] if is_known else last * is_shown)
        if is_shown and label in fused:
            number_of[label] = numbers[-1]
    return numbers


def instance(logits: Logits, task: Task) -> Painting:
    """Paint the likeliest pairs of query and class over each other, in the order of the reference."""
    size, parameters = task.size, task.parameters
    odds = logits.classes.softmax(-1)[:, :-1]  # (Q, C)
    scores, pairs = odds.flatten().topk(len(odds), sorted=False)  # (Q,)
    # A mask's own score is a mean of probabilities, so it raises nothing.
    hopeful = scores * (1 + ROUNDING) >= parameters.threshold
    scores, pairs = scores[hopeful], pairs[hopeful]  # (K,)
    if not len(scores):
        return nothing(size, logits.masks.device)
    masks = resized(logits.masks[pairs // odds.shape[1]], GRID, among=len(odds))  # (K, 384, 384)
    level = level_of(parameters.mask_threshold) if parameters.strict_instance_thresholds else 0.0
    inside = masks > level
    rows, columns = nearest(size, masks.device)
    areas = sampled_areas(inside, rows, columns).tolist()
    rated = (scores * mask_scores(masks, inside)).tolist()
    shown = [number for number, score in enumerate(rated) if areas[number] and score >= parameters.threshold]
    grid = torch.zeros(GRID, dtype=map_type(len(shown)), device=masks.device)
    for identifier, number in enumerate(shown, start=1):
        grid[inside[number]] = identifier
    plane = grid[rows][:, columns]
    labels = (pairs % odds.shape[1]).tolist()
    found = tuple(Found(labels[number], round(rated[number], 6)) for number in shown)
    if not parameters.strict_instance_thresholds:
        return Painting(plane, found)
    seen = counted(plane, len(shown) + 1)[1:].tolist()
    least = parameters.overlap_mask_area_threshold
    large = [visible / areas[number] > least for visible, number in zip(seen, shown, strict=True)]
    numbers = [0, *numbered([0] * len(large), large, frozenset())]
    return Painting(
        renumbered(plane, numbers), tuple(one for one, is_large in zip(found, large, strict=True) if is_large)
    )


def semantic(logits: Logits, task: Task) -> Painting:
    """Give each pixel to the likeliest class.  There are no scores, and no threshold matters."""
    odds = logits.classes.softmax(-1)[:, :-1]  # (Q, C)
    likely = resized(logits.masks, GRID, among=len(odds)).sigmoid_()  # (Q, 384, 384)
    classes = torch.einsum("bqc, bqhw -> bchw", odds[None], likely[None])[0]  # (C, 384, 384)
    del likely
    contest = contenders(classes, task.size)
    chance, count = contest.numbers, len(classes)
    classes = classes if len(chance) == count else classes[chance]
    won = winners(classes, task.size, among=count, contested=contest.columns, budget=task.budget)
    shown = (counted(won.plane, len(chance)) > 0).tolist()
    found = tuple(Found(label, None) for label, is_shown in zip(chance.tolist(), shown, strict=True) if is_shown)
    return Painting(renumbered(won.plane, numbered(chance.tolist(), shown, frozenset())), found)


Painter = Callable[[Logits, Task], Painting]
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


def contenders(
    planes: Tensor, size: tuple[int, int], *, weights: Tensor | None = None, at_least: float | None = None
) -> Contest:
    """Find those planes (K, h, w) that may be the highest somewhere once they are resized and weighed.

    A resized pixel is a mean of four neighbours: it is at most the largest of them, and the winner is at least the
    smallest of any plane's four.  Where there is little to resize that costs less than to find out.

    Args:
        at_least: the columns in which a plane may reach this matter as well.
    """
    if len(planes) * size[0] * size[1] < PIXELS_WORTH_A_CHOICE:
        return Contest(torch.arange(len(planes), device=planes.device), None)

    def some() -> Iterator[tuple[slice, Tensor]]:
        for first in range(0, len(planes), PLANES_AT_ONCE):
            part = slice(first, first + PLANES_AT_ONCE)
            yield part, planes[part] if weights is None else planes[part] * weights[part].view(-1, 1, 1)

    bar = planes.new_zeros(planes.shape[1] - 1, planes.shape[2] - 1)
    for _, few in some():
        torch.maximum(bar, corners(few, torch.minimum).amax(0), out=bar)
    bar = lowered(bar)
    wins, counts = [], []
    for _, few in some():
        upper = corners(few, torch.maximum)
        wins.append((upper >= bar).any(1))
        counts.append((upper.amax(1) >= lowered(bar.new_tensor(at_least))) if at_least is not None else wins[-1])
    winning = torch.cat(wins)  # (K, w - 1)
    numbers = winning.any(1).nonzero().flatten()
    return Contest(numbers, (winning | torch.cat(counts))[numbers])


def lowered(bar: Tensor) -> Tensor:
    """Return what to be below means to be below the bar, however sums and products were rounded."""
    return bar * (1 - ROUNDING) - torch.finfo(bar.dtype).tiny


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
    contested: Tensor | None = None,
    budget: Budget | None = None,
) -> Winners:
    """Resize planes (K, 384, 384), weigh each, and say which is highest at each pixel; the first one on a tie.

    Args:
        among: how many planes there were before some were left out; see resized().
        contested: (K, 383), see Contest.
    """
    budget = budget or Budget()
    plane = torch.zeros(size, dtype=map_type(len(planes) - 1), device=planes.device)
    areas = torch.zeros(len(planes), dtype=torch.int64, device=planes.device)
    strip = max(1, budget.strip_bytes // (planes.element_size() * planes.shape[1] * size[1]))
    # What fits into one strip has met all its rivals when a band is done.
    best = torch.full(size, -torch.inf, dtype=planes.dtype, device=planes.device) if strip < len(planes) else None
    for first in range(0, len(planes), strip):
        part = slice(first, first + strip)
        columns = None if contested is None else contested[part]
        for band in resized_bands(planes[part], size, among=among, contested=columns, budget=budget):
            numbers, values = band.numbers + first, band.values
            if weights is not None:
                values *= weights[numbers].view(-1, 1, 1)
            if at_least is not None:
                areas[numbers] += count_true(values >= at_least)
            highest, which = values.max(0)
            winner = numbers.to(plane.dtype)[which]
            if best is None:
                plane[:, band.columns] = winner
                continue
            higher = highest > best[:, band.columns]
            plane[:, band.columns] = torch.where(higher, winner, plane[:, band.columns])
            best[:, band.columns] = torch.where(higher, highest, best[:, band.columns])
    return Winners(plane, areas)


def resized_bands(
    planes: Tensor,
    size: tuple[int, int],
    *,
    among: int,
    contested: Tensor | None = None,
    budget: Budget | None = None,
) -> Iterator[Band]:
    """Resize planes (K, 384, 384) bilinearly; yield bands of columns from left to right.

    torch mixes the two neighbours in a row first and the two rows then.  To resize the width alone and the height
    after it rounds in the same places, and the second step may be done for a few columns at a time, and there for
    those planes alone that are contested.
    """
    (height, width), budget = size, budget or Budget()
    everyone = torch.arange(len(planes), device=planes.device)
    column_bytes = planes.element_size() * len(planes) * height
    # With few rows a narrow band would meet torch's other plan.
    least = 1 if height >= SMALL_SIDES else 2 * SMALL_SIDES
    bands = -(-width // max(least, budget.band_bytes // column_bytes))
    if not comes_apart(among) or bands == 1 or column_bytes * width <= budget.direct_bytes:
        yield Band(slice(0, width), everyone, resized(planes, size, among=among))
        return
    strip = resized(planes, (planes.shape[1], width), among=among)
    for number in range(bands):
        columns = slice(width * number // bands, width * (number + 1) // bands)
        chosen = everyone if contested is None else everyone[in_columns(contested, columns, width)]
        if len(chosen):
            source = strip[:, :, columns] if len(chosen) == len(planes) else strip[chosen, :, columns]
            yield Band(columns, chosen, resized(source, (height, columns.stop - columns.start), among=among))


def comes_apart(among: int) -> bool:
    """Say whether so many planes may be resized in width first and in height then, with the same bits."""
    return among != ODD_COUNT or torch.get_num_threads() > 1


def in_columns(contested: Tensor, columns: slice, width: int) -> Tensor:
    """Say of each plane whether it is contested where some of an image's columns come from; (K,)."""
    scale, last = GRID[1] / width, contested.shape[1] - 1
    # One more on both sides, so that no rounding matters.
    low = int((columns.start + 0.5) * scale - 0.5) - 1
    high = int((columns.stop - 0.5) * scale - 0.5) + 1
    return contested[:, min(max(low, 0), last) : high + 1].any(1)


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


def sampled_areas(inside: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Count the image's pixels in masks (K, h, w) of the grid, when it takes these rows and columns of it; (K,)."""
    row_counts, column_counts = (torch.bincount(taken, minlength=GRID[0]).double() for taken in (rows, columns))
    by_row = torch.stack([mask.float() @ column_counts.float() for mask in inside])
    return (by_row.double() @ row_counts).long()


def counted(plane: Tensor, most: int) -> Tensor:
    """Count the pixels (H, W) of each number below `most`; (most,)."""
    return torch.bincount(plane.flatten(), minlength=most)


def count_true(masks: Tensor) -> Tensor:
    """(K, h, w) bool -> (K,)"""
    if masks.device.type == "cpu":
        # torch would make a copy in 64-bit numbers first.
        return torch.tensor([int(np.count_nonzero(mask)) for mask in masks.numpy()])
    return masks.flatten(1).sum(1)


def level_of(probability: float) -> float:
    """Return the logit above which a probability is above this one."""
    if probability in (0.0, 1.0):
        return -inf if probability == 0.0 else inf
    return log(probability / (1 - probability))


def mask_scores(masks: Tensor, inside: Tensor) -> Tensor:
    """(K, h, w) logits, (K, h, w) bool -> (K,): the mean probability inside each mask."""
    if len(masks) == 1:
        # torch sums a lone row in another order than one of many, and the reference always has many.
        return mask_scores(masks.expand(2, -1, -1), inside.expand(2, -1, -1))[:1]
    part = inside.float().flatten(1)
    return (masks.sigmoid().flatten(1) * part).sum(1) / (part.sum(1) + 1e-6)


def renumbered(plane: Tensor, numbers: Sequence[int]) -> Tensor:
    """Put a number in the place of each plane's."""
    table = torch.as_tensor(numbers, device=plane.device).to(map_type(max(numbers)))
    return torch.cat([table[plane[row : row + ROWS_AT_ONCE].int()] for row in range(0, len(plane), ROWS_AT_ONCE)])


def nothing(size: tuple[int, int], device: torch.device) -> Painting:
    return Painting(torch.zeros(size, dtype=torch.uint8, device=device), ())


def map_type(largest: int) -> torch.dtype:
    return torch.uint8 if largest < 256 else torch.int16
