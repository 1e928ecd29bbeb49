"""Which query is to show which thing.

A query answers for one class for good, so a thing is given to one of its own class's queries alone: the one that
already is closest to it, in the sense of the smallest sum of costs over the things of that class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot

from worker.training.augmentation import Example
from worker.training.coco_panoptic import NO_THING, OTHER, VOID

# Fewer pixels than this at the network's input are nothing that its masks could show.
LEAST_PIXELS: Final = 24
# Things with a smaller side than this share of the image's do not tell where queries should be at home.
LARGE: Final = 0.15
# Where things may be even if none was seen there: x, y and side.
ALONE: Final = (0.5, 0.5, 0.6)
AMONG: Final = tuple((x / 8, y / 8, 0.25) for x in range(1, 8, 2) for y in range(1, 8, 2))
# Masks are compared at a quarter of their sides; that tells things apart well enough.
COARSER: Final = 2
MASK_COST: Final = 2.0
DICE_COST: Final = 2.0


@dataclass(frozen=True, slots=True)
class Truth:
    """What one example shows.

    classes: (n,) int64, masks: (n, h, w) the share of each cell that belongs to the region.
    known: (2, h, w), the share of each cell that may be judged: for stuff, and for things.
    certain: (C,) bool, whether the regions are all there is of a class.
    owners: (h, w) int64, the region in the middle of each cell, n for something else, n + 1 for not to be judged.
    sure: (h, w), how sure all this is in each cell.  surety: (n,), the same on average over each region.
    """

    classes: Tensor
    masks: Tensor
    known: Tensor
    certain: Tensor
    owners: Tensor
    sure: Tensor
    surety: Tensor


@dataclass(frozen=True, slots=True)
class Match:
    """Pairs of one image: (m,) queries and (m,) regions."""

    queries: Tensor
    regions: Tensor


@dataclass(frozen=True, slots=True)
class Queries:
    """classes: (Q,) the class that each query answers for.  anchors: (Q, 3), see anchors_of."""

    classes: Tensor
    anchors: Tensor

    def to(self, device: torch.device | str) -> "Queries":
        return Queries(self.classes.to(device), self.anchors.to(device))


def truth_of(example: Example, *, stride: int) -> Truth:
    """Turn an example's regions into masks at the network's own stride."""
    kinds, regions = example.kinds, torch.from_numpy(example.regions.astype(np.int64))
    areas = np.bincount(example.regions.ravel(), minlength=len(kinds))
    is_shown = (kinds >= 0) & ~example.crowds & (areas >= LEAST_PIXELS)
    is_unclear = (kinds >= 0) & ~is_shown & (areas > 0)
    certain = example.certain.copy()
    certain[kinds[is_unclear]] = False
    shares = avg_pool2d(one_hot(regions, len(kinds)).permute(2, 0, 1).float(), stride)  # (R, h, w)
    is_void = (kinds == VOID) | is_unclear
    unknown = torch.stack([shares[is_void | (kinds == NO_THING)].sum(0), shares[is_void].sum(0)])
    middles = regions[stride // 2 :: stride, stride // 2 :: stride]
    sure = avg_pool2d(torch.from_numpy(example.sure.astype(np.float32))[None] / 255, stride)[0]
    masks = shares[is_shown]
    return Truth(
        classes=torch.from_numpy(kinds[is_shown].astype(np.int64)),
        masks=masks,
        known=(1 - unknown) * sure,
        certain=torch.from_numpy(certain),
        owners=torch.from_numpy(owner_table(kinds, is_shown))[middles],
        sure=sure,
        surety=(masks * sure).sum((1, 2)) / masks.sum((1, 2)),
    )


def owner_table(kinds: NDArray[np.int16], is_shown: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each region its place among those shown, or what stands for something else and for no judgement."""
    count = int(is_shown.sum())
    table = np.where(kinds == OTHER, count, count + 1).astype(np.int64)
    table[is_shown] = np.arange(count)
    return table


def anchors_of(classes: Sequence[int], alone: NDArray[np.float64], among: NDArray[np.float64]) -> Tensor:
    """(Q, 3): where in the image each query is at home, x and y in [0, 1], and the side of what it looks for.

    The first query of a class is at home where things are that are alone of their class.  The others share out where
    things are that are not: they stand in the middles of as many clusters (k-means).  Without a rule of who is to show
    what, one query learns to show all that is of its class.

    Args:
        classes: of the queries; those of one class stand together, in the order of the classes.
        alone, among: (n, 3), places of things in images as the network gets to see them; see places_of.
    """
    counts = np.bincount(classes)
    found = [np.concatenate([alone.mean(0, keepdims=True), clusters(among, count - 1)]) for count in counts[counts > 0]]
    return torch.from_numpy(np.concatenate(found)).float()


def clusters(places: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """(n, 3) -> (count, 3), the largest things first."""
    if not count:
        return places[:0]
    means, _ = kmeans2(places, count, minit="++", rng=np.random.default_rng(0))
    sorted_: NDArray[np.float64] = means[np.argsort(-means[:, 2])]
    return sorted_


def things_in(truths: Sequence[Truth], stuff: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the places of things that are alone of their class in their image, and of those that are not.

    Args:
        stuff: (C,) bool, the classes that are no things.
    """
    places = np.concatenate([places_of(truth.masks).numpy() for truth in truths])
    counts = [torch.bincount(truth.classes, minlength=len(stuff))[truth.classes] for truth in truths]
    is_thing = torch.cat([~stuff[truth.classes] for truth in truths]).numpy()
    is_alone = (torch.cat(counts) == 1).numpy()
    is_large = places[:, 2] >= LARGE
    alone, among = (places[is_thing & is_large & one] for one in (is_alone, ~is_alone))
    return np.concatenate([[ALONE], alone]), np.concatenate([AMONG, among])


def match(
    class_logits: Tensor, mask_logits: Tensor, truth: Truth, queries: Queries, *, anchoring: float = 0.0
) -> Match:
    """Give each region of one image to a query of its class; where there are more than queries, some go without.

    Args:
        class_logits: (Q, C + 1).
        mask_logits: (Q, h, w).
        anchoring: how much it costs to be far from the query's anchor.
    """
    if not len(truth.classes):
        nobody = torch.zeros(0, dtype=torch.int64, device=class_logits.device)
        return Match(nobody, nobody)
    costs = costs_of(class_logits, mask_logits, truth) + anchoring * torch.cdist(
        queries.anchors, places_of(truth.masks)
    )
    table, own = costs.cpu().double().numpy(), queries.classes.cpu().numpy()
    wanted = truth.classes.cpu().numpy()
    pairs = [assigned(table, np.flatnonzero(own == one), np.flatnonzero(wanted == one)) for one in np.unique(wanted)]
    chosen = torch.from_numpy(np.concatenate(pairs)).to(class_logits.device)
    return Match(chosen[:, 0], chosen[:, 1])


def assigned(costs: NDArray[np.float64], queries: NDArray[np.intp], regions: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return pairs (m, 2) of query and region with the least sum of costs."""
    rows, columns = linear_sum_assignment(costs[np.ix_(queries, regions)])
    return np.stack([queries[rows], regions[columns]], 1).astype(np.int64)


def costs_of(class_logits: Tensor, mask_logits: Tensor, truth: Truth) -> Tensor:
    """(Q, n): how badly each query would do as each region."""
    guess = avg_pool2d(mask_logits.float(), COARSER).flatten(1)  # (Q, p)
    wanted = avg_pool2d(truth.masks, COARSER).flatten(1)  # (n, p)
    known = avg_pool2d(truth.known, COARSER).flatten(1)[1]  # (p,)
    likely = class_logits.float().softmax(-1)[:, truth.classes]
    # Cross-entropy of sigmoids is softplus(x) - x * y, so all pairs come from one product.
    cross = ((torch.nn.functional.softplus(guess) * known).sum(1, keepdim=True) - (guess * known) @ wanted.T) / (
        known.sum().clamp(min=1)
    )
    odds = guess.sigmoid() * known
    dice = 1 - (2 * odds @ wanted.T + 1) / (odds.sum(1, keepdim=True) + wanted.sum(1) + 1)
    return MASK_COST * cross + DICE_COST * dice - likely


def places_of(masks: Tensor) -> Tensor:
    """(n, h, w) -> (n, 3): the middle of each mask, x and y in [0, 1], and the side of a square of its area."""
    height, width = masks.shape[1:]
    areas = masks.sum((1, 2)).clamp(min=1e-3)
    x = (masks.sum(1) @ ((torch.arange(width, device=masks.device) + 0.5) / width)) / areas
    y = (masks.sum(2) @ ((torch.arange(height, device=masks.device) + 0.5) / height)) / areas
    return torch.stack([x, y, (areas / (height * width)).sqrt()], 1)


def matches_of(output: Any, truths: Sequence[Truth], queries: Queries, *, anchoring: float) -> list[Match]:
    """Match every image of a batch by the network's last layer."""
    with torch.no_grad():
        return [
            match(classes, masks, truth, queries, anchoring=anchoring)
            for classes, masks, truth in zip(
                output.class_queries_logits, output.masks_queries_logits, truths, strict=True
            )
        ]
