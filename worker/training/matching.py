"""Matching of queries and ground-truth regions.

A query predicts a single class, so a region is matched to a query of its own class only.  Within a class the matching
has the smallest sum of costs (Hungarian algorithm), as in DETR (Carion et al., 2020) and Mask2Former (Cheng et al.,
2022).  In training an additional cost keeps queries near their anchors.
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
from worker.training.coco_panoptic import NO_THING, NOT_CERTAIN, OTHER, VOID

# Regions with fewer pixels at the network's input are too small for its masks.
MIN_PIXELS: Final = 24
# Things with a smaller side, as a share of the image's, have no influence on the anchors.
MIN_ANCHOR_SIDE: Final = 0.15
# Locations (x, y, side) that are added to those of the surveyed things, for classes without any.
DEFAULT_SINGLE: Final = (0.5, 0.5, 0.6)
DEFAULT_MULTIPLE: Final = tuple((x / 8, y / 8, 0.25) for x in range(1, 8, 2) for y in range(1, 8, 2))
# Costs are computed on masks that are pooled by this factor, which is precise enough to tell things apart.
COST_STRIDE: Final = 2
# Offsets in Truth.region_index.
ANOTHER_CLASS: Final = 0
UNKNOWN: Final = 1
NO_CERTAIN_CLASS: Final = 2
NO_THING_HERE: Final = 3
MASK_COST: Final = 2.0
DICE_COST: Final = 2.0


@dataclass(frozen=True, slots=True)
class Truth:
    """Ground truth of one example at the stride of the masks: n regions, h x w cells.

    classes: (n,) int64.
    masks: (n, h, w) float32, the share of each cell that belongs to the region.
    known: (2, h, w) float32, the share of each cell with known ground truth: for stuff, and for things.
    not_certain: (h, w) float32, the share of each cell that is known to show no certain class, and no more than that.
    is_certain: (C,) bool, whether a class is certain.
    is_exhaustive: (C,) bool, whether the regions are all instances of a class; a certain class with a crowd is not
        exhaustive.
    region_index: (h, w) int64, the region at the centre of each cell; n for another class, n + 1 for unknown, n + 2
        for no certain class, n + 3 for no thing.
    confidence: (h, w) float32, in [0, 1].
    region_confidence: (n,) float32, mean confidence of each region.
    """

    classes: Tensor
    masks: Tensor
    known: Tensor
    not_certain: Tensor
    is_certain: Tensor
    is_exhaustive: Tensor
    region_index: Tensor
    confidence: Tensor
    region_confidence: Tensor


@dataclass(frozen=True, slots=True)
class Match:
    """Matched pairs of one image.  queries, regions: (m,) int64, indices."""

    queries: Tensor
    regions: Tensor


@dataclass(frozen=True, slots=True)
class Queries:
    """classes: (Q,) int64, the class of each query.  anchors: (Q, 3) float32, see compute_anchors."""

    classes: Tensor
    anchors: Tensor

    def to(self, device: torch.device | str) -> "Queries":
        return Queries(self.classes.to(device), self.anchors.to(device))


def build_truth(example: Example, *, stride: int) -> Truth:
    """Turn the regions of an example into masks at the stride of the network's masks.

    Crowds and regions below MIN_PIXELS become unknown, and their classes not exhaustive.
    """
    labels, regions = example.labels, torch.from_numpy(example.regions.astype(np.int64))
    areas = np.bincount(example.regions.ravel(), minlength=len(labels))
    is_used = (labels >= 0) & ~example.is_crowd & (areas >= MIN_PIXELS)
    is_unclear = (labels >= 0) & ~is_used & (areas > 0)
    is_exhaustive = example.is_exhaustive.copy()
    is_exhaustive[labels[is_unclear]] = False
    shares = avg_pool2d(one_hot(regions, len(labels)).permute(2, 0, 1).float(), stride)  # (R, h, w)
    is_void = (labels == VOID) | is_unclear
    unknown = torch.stack([shares[is_void | (labels == NO_THING)].sum(0), shares[is_void].sum(0)])
    centres = regions[stride // 2 :: stride, stride // 2 :: stride]
    confidence = avg_pool2d(torch.from_numpy(example.confidence.astype(np.float32))[None] / 255, stride)[0]
    masks = shares[is_used]
    return Truth(
        classes=torch.from_numpy(labels[is_used].astype(np.int64)),
        masks=masks,
        known=(1 - unknown) * confidence,
        not_certain=shares[labels == NOT_CERTAIN].sum(0) * confidence,
        is_certain=torch.from_numpy(example.is_exhaustive),
        is_exhaustive=torch.from_numpy(is_exhaustive),
        region_index=torch.from_numpy(renumber_regions(labels, is_used))[centres],
        confidence=confidence,
        region_confidence=(masks * confidence).sum((1, 2)) / masks.sum((1, 2)),
    )


def renumber_regions(labels: NDArray[np.int16], is_used: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return (R,) the index of each region as Truth.region_index has it."""
    count = int(is_used.sum())
    table = np.full(len(labels), count + UNKNOWN, np.int64)
    for label, offset in ((OTHER, ANOTHER_CLASS), (NOT_CERTAIN, NO_CERTAIN_CLASS), (NO_THING, NO_THING_HERE)):
        table[labels == label] = count + offset
    table[is_used] = np.arange(count)
    return table


def known_shares(truth: Truth, stuff: Tensor) -> Tensor:
    """Return (n, h, w) float32, the share of each cell of which it is known whether it belongs to a region.

    Where an image shows no certain class, that is known of the regions of certain classes only.

    Args:
        stuff: (C,) bool, the stuff classes.
    """
    is_open = ~truth.is_certain[truth.classes]
    return truth.known[1 - stuff[truth.classes].long()] - is_open[:, None, None] * truth.not_certain


def compute_anchors(classes: Sequence[int], single: NDArray[np.float64], multiple: NDArray[np.float64]) -> Tensor:
    """Return (Q, 3) float32, the anchor of each query: x and y in [0, 1], and the side of the things it looks for.

    The anchor of a class's first query is the mean location of things that are the only one of their class in an
    image.  The anchors of its other queries are the centres of clusters (k-means) of the things that are not.  Without
    anchors, one query learns to show all things of its class.

    Args:
        classes: of the queries; those of one class are contiguous, in the order of the classes.
        single, multiple: (n, 3), locations of things in training examples; see mask_locations.
    """
    counts = np.bincount(classes)
    anchors = [
        np.concatenate([single.mean(0, keepdims=True), cluster_centres(multiple, count - 1)])
        for count in counts[counts > 0]
    ]
    return torch.from_numpy(np.concatenate(anchors)).float()


def cluster_centres(locations: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Cluster (n, 3) locations by k-means and return (count, 3) the centres, sorted by side, the largest first."""
    if not count:
        return locations[:0]
    means, _ = kmeans2(locations, count, minit="++", rng=np.random.default_rng(0))
    centres: NDArray[np.float64] = means[np.argsort(-means[:, 2])]
    return centres


def thing_locations(truths: Sequence[Truth], stuff: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (n, 3) the locations of things that are the only one of their class in an image, and of all others.

    Args:
        stuff: (C,) bool, the stuff classes.
    """
    locations = np.concatenate([mask_locations(truth.masks).numpy() for truth in truths])
    counts = [torch.bincount(truth.classes, minlength=len(stuff))[truth.classes] for truth in truths]
    is_thing = torch.cat([~stuff[truth.classes] for truth in truths]).numpy()
    is_single = (torch.cat(counts) == 1).numpy()
    is_large = locations[:, 2] >= MIN_ANCHOR_SIDE
    single, multiple = (locations[is_thing & is_large & chosen] for chosen in (is_single, ~is_single))
    return np.concatenate([[DEFAULT_SINGLE], single]), np.concatenate([DEFAULT_MULTIPLE, multiple])


def match_queries(
    class_logits: Tensor, mask_logits: Tensor, truth: Truth, queries: Queries, *, anchoring: float = 0.0
) -> Match:
    """Match each region of one image to a query of its class; regions beyond the number of queries stay unmatched.

    Args:
        class_logits: (Q, C + 1).
        mask_logits: (Q, h, w).
        anchoring: cost of a unit of distance between a region's location and the query's anchor.
    """
    return match_views(class_logits[None], mask_logits[None], truth, queries, anchoring=anchoring)


def match_views(
    class_logits: Tensor, mask_logits: Tensor, truth: Truth, queries: Queries, *, anchoring: float = 0.0
) -> Match:
    """Match once for all views of an image, by the mean of their costs: (V, Q, C + 1) and (V, Q, h, w)."""
    if not len(truth.classes):
        empty = torch.zeros(0, dtype=torch.int64, device=class_logits.device)
        return Match(empty, empty)
    by_view = [matching_costs(*view, truth) for view in zip(class_logits, mask_logits, strict=True)]
    costs = torch.stack(by_view).mean(0) + anchoring * torch.cdist(queries.anchors, mask_locations(truth.masks))
    table, query_classes = costs.cpu().double().numpy(), queries.classes.cpu().numpy()
    targets = truth.classes.cpu().numpy()
    pairs = [
        assign(table, np.flatnonzero(query_classes == one), np.flatnonzero(targets == one))
        for one in np.unique(targets)
    ]
    chosen = torch.from_numpy(np.concatenate(pairs)).to(class_logits.device)
    return Match(chosen[:, 0], chosen[:, 1])


def assign(costs: NDArray[np.float64], queries: NDArray[np.intp], regions: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return (m, 2) pairs of a query and a region with the smallest sum of costs (Q, n)."""
    rows, columns = linear_sum_assignment(costs[np.ix_(queries, regions)])
    return np.stack([queries[rows], regions[columns]], 1).astype(np.int64)


def matching_costs(class_logits: Tensor, mask_logits: Tensor, truth: Truth) -> Tensor:
    """Return (Q, n) costs of each pair of a query and a region: mask cross-entropy, dice, and class probability."""
    logits = avg_pool2d(mask_logits.float(), COST_STRIDE).flatten(1)  # (Q, p)
    targets = avg_pool2d(truth.masks, COST_STRIDE).flatten(1)  # (n, p)
    # A stuff class has one query, so what is known of stuff makes no difference.
    known = avg_pool2d(known_shares(truth, torch.zeros_like(truth.is_certain)), COST_STRIDE).flatten(1)  # (n, p)
    class_probs = class_logits.float().softmax(-1)[:, truth.classes]
    # Cross-entropy of sigmoids is softplus(x) - x * y, so two products give it for all pairs.
    cross = (torch.nn.functional.softplus(logits) @ known.T - logits @ (known * targets).T) / known.sum(1).clamp(min=1)
    probs = logits.sigmoid()
    dice = 1 - (2 * probs @ (known * targets).T + 1) / (probs @ known.T + targets.sum(1) + 1)
    return MASK_COST * cross + DICE_COST * dice - class_probs


def mask_locations(masks: Tensor) -> Tensor:
    """(n, h, w) -> (n, 3): the centroid of each mask, x and y in [0, 1], and the side of a square of equal area.

    The side is a share of that of the image.
    """
    height, width = masks.shape[1:]
    areas = masks.sum((1, 2)).clamp(min=1e-3)
    x = (masks.sum(1) @ ((torch.arange(width, device=masks.device) + 0.5) / width)) / areas
    y = (masks.sum(2) @ ((torch.arange(height, device=masks.device) + 0.5) / height)) / areas
    return torch.stack([x, y, (areas / (height * width)).sqrt()], 1)


def match_batch(output: Any, truths: Sequence[Truth], queries: Queries, *, anchoring: float) -> list[Match]:
    """Match every image of a batch by the predictions of the network's last layer.

    Args:
        output: of V * B images; those at b, B + b, 2 * B + b, ... are views of one image.
        truths: of the B images.

    Returns:
        the matches of the B images.
    """
    with torch.no_grad():
        class_logits, mask_logits = (
            logits.reshape(-1, len(truths), *logits.shape[1:]).transpose(0, 1)
            for logits in (output.class_queries_logits, output.masks_queries_logits)
        )
        return [
            match_views(classes, masks, truth, queries, anchoring=anchoring)
            for classes, masks, truth in zip(class_logits, mask_logits, truths, strict=True)
        ]
