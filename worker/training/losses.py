"""The training loss: class and mask losses of the matched queries, and losses of the queries at each pixel.

The first two are those of MaskFormer (Cheng et al., 2021) and Mask2Former (Cheng et al., 2022), with a fixed class for
each query, and a class target that is the quality of the mask: "Generalized Focal Loss" (Li et al., 2020).  A threshold
on the score then drops poor masks.  The other losses are added here.  What the ground truth leaves unknown has no loss:
unlabelled pixels, and queries of classes that are not annotated exhaustively.

Shapes: B images, Q queries, C classes, n regions of one image, masks of h x w.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from worker.training.matching import NO_CERTAIN_CLASS, NO_THING_HERE, Match, Queries, Truth, known_shares

# Weight of an unmatched query, whose target is no object.  Most queries are unmatched in most images; at full weight
# they would dominate the class loss.
NO_OBJECT_WEIGHT: Final = 0.15
# The same where the image shows the query's class, so that another query of the class is matched.  With less, two
# queries that show one thing alike, each of them matched half of the time, would both have high scores.
SIBLING_NO_OBJECT_WEIGHT: Final = 1.0
CLASS_WEIGHT: Final = 1.0
MASK_WEIGHT: Final = 1.5
PIXEL_WEIGHT: Final = 1.0
ABSENCE_WEIGHT: Final = 1.0
CONSISTENCY_WEIGHT: Final = 0.5
# Of mirrored views: a squared distance is smaller than the divergence that the others have.
MIRRORED_FACTOR: Final = 4.0
# Added to the weight 1 of a mask's pixel that belongs to another thing of the same class.
SIBLING_PIXEL_WEIGHT: Final = 4.0
# Logit that excludes a query from the softmax over the queries at a pixel.
EXCLUDED_LOGIT: Final = -1e4
IGNORE_INDEX: Final = -100


@dataclass(frozen=True, slots=True)
class Loss:
    """Scalars, unweighted."""

    classes: Tensor
    masks: Tensor
    pixels: Tensor
    absence: Tensor
    consistency: Tensor

    @property
    def total(self) -> Tensor:
        matched = CLASS_WEIGHT * self.classes + MASK_WEIGHT * self.masks + PIXEL_WEIGHT * self.pixels
        return matched + ABSENCE_WEIGHT * self.absence + CONSISTENCY_WEIGHT * self.consistency


def compute_loss(
    output: Any,
    truths: Sequence[Truth],
    matches: Sequence[Match],
    queries: Queries,
    stuff: Tensor,
    *,
    views: int = 1,
    is_mirrored: bool = False,
) -> Loss:
    """Compute the loss of a Mask2Former's output; class and mask losses are summed over its prediction layers.

    Args:
        output: with `output_auxiliary_logits`, of V views of B images, see match_batch; class logits (V * B, Q, C + 1),
            mask logits (V * B, Q, h, w).
        truths, matches: of every view.
        stuff: (C,) bool, the stuff classes.
        views: V.
        is_mirrored: whether views were mirrored, whose queries may differ, but not the classes that they show.
    """
    auxiliary = output.auxiliary_logits
    layers = [(layer["class_queries_logits"], layer["masks_queries_logits"]) for layer in auxiliary]
    layers.append((output.class_queries_logits, output.masks_queries_logits))
    targets, weights = class_targets(truths, matches, queries)
    return Loss(
        classes=torch.stack(
            [
                class_loss(classes.float(), targets, weights, match_qualities(masks, truths, matches, stuff))
                for classes, masks in layers
            ]
        ).sum(),
        masks=torch.stack([mask_loss(masks.float(), truths, matches, stuff) for _, masks in layers]).sum(),
        pixels=pixel_loss(output.masks_queries_logits.float(), truths, matches, queries),
        absence=absence_loss(output.masks_queries_logits.float(), truths, queries, stuff),
        consistency=MIRRORED_FACTOR * mirrored_consistency_loss(output, queries, views)
        if is_mirrored
        else consistency_loss(output.class_queries_logits, output.masks_queries_logits, views),
    )


def class_targets(truths: Sequence[Truth], matches: Sequence[Match], queries: Queries) -> tuple[Tensor, Tensor]:
    """Return (B, Q) int64 the target class of each query, C for no object, and (B, Q) float32 its weight.

    An unmatched query has weight 0 where its class is not annotated exhaustively; a matched one has the confidence of
    its region.
    """
    targets, weights = [], []
    for truth, match in zip(truths, matches, strict=True):
        target = torch.full_like(queries.classes, len(truth.is_exhaustive))
        target[match.queries] = queries.classes[match.queries]
        no_object = torch.where(present_classes(truth), SIBLING_NO_OBJECT_WEIGHT, NO_OBJECT_WEIGHT)
        weight = (no_object * truth.is_exhaustive)[queries.classes]
        weight[match.queries] = truth.region_confidence[match.regions]
        targets.append(target)
        weights.append(weight)
    return torch.stack(targets), torch.stack(weights)


def present_classes(truth: Truth) -> Tensor:
    """Return (C,) bool, the classes with at least one region."""
    is_present = torch.zeros_like(truth.is_exhaustive)
    is_present[truth.classes] = True
    return is_present


@torch.no_grad()
def match_qualities(logits: Tensor, truths: Sequence[Truth], matches: Sequence[Match], stuff: Tensor) -> Tensor:
    """Return (B, Q) float32, the intersection over union of each matched mask of (B, Q, h, w) with its region.

    It is over known pixels, in [0, 1].  That of an unmatched query is 1: it shows no object, as it should.
    """
    qualities = torch.ones(logits.shape[:2], device=logits.device)
    for image, quality, truth, match in zip(logits, qualities, truths, matches, strict=True):
        known = known_shares(truth, stuff)[match.regions].flatten(1)
        shown = (image[match.queries] > 0).float().flatten(1)
        region = truth.masks[match.regions].flatten(1)
        shared = (known * shown * region).sum(1)
        quality[match.queries] = shared / ((known * (shown + region)).sum(1) - shared).clamp(min=1)
    return qualities


def class_loss(logits: Tensor, targets: Tensor, weights: Tensor, qualities: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy of logits (B, Q, C + 1).

    Args:
        targets, weights: (B, Q), see class_targets.
        qualities: (B, Q), the probability of the target; the rest is that of no object.
    """
    losses = -logits.log_softmax(-1)
    expected = losses.gather(-1, targets[..., None])[..., 0] * qualities + losses[..., -1] * (1 - qualities)
    return (expected * weights).sum() / weights.sum().clamp(min=1e-6)


def mask_loss(logits: Tensor, truths: Sequence[Truth], matches: Sequence[Match], stuff: Tensor) -> Tensor:
    """Return the binary cross-entropy plus dice loss of the matched masks of (B, Q, h, w), over known pixels.

    Pixels of other things of the same class have a higher weight: they are few, and look like pixels of the thing.
    Dice loss: Milletari et al., "V-Net", 2016.
    """
    pairs = list(zip(truths, matches, strict=True))
    matched = torch.cat([image[match.queries] for image, (_, match) in zip(logits, pairs, strict=True)]).flatten(1)
    if not len(matched):
        return logits.sum() * 0
    targets = torch.cat([truth.masks[match.regions] for truth, match in pairs]).flatten(1)
    known = torch.cat([known_shares(truth, stuff)[match.regions] for truth, match in pairs]).flatten(1)
    siblings = torch.cat([sibling_shares(truth)[match.regions] for truth, match in pairs])
    weight = known * (1 + SIBLING_PIXEL_WEIGHT * siblings)
    losses = binary_cross_entropy_with_logits(matched, targets, weight=weight, reduction="none")
    cross = losses.sum(1) / known.sum(1).clamp(min=1)
    probs = matched.sigmoid() * weight
    dice = 1 - (2 * (probs * targets).sum(1) + 1) / (probs.sum(1) + targets.sum(1) + 1)
    confidence = torch.cat([truth.region_confidence[match.regions] for truth, match in pairs])
    return ((cross + dice) * confidence).sum() / confidence.sum().clamp(min=1e-6)


def sibling_shares(truth: Truth) -> Tensor:
    """Return (n, h * w) float32, the share of each cell that belongs to other regions of the same class."""
    is_sibling = (truth.classes[:, None] == truth.classes).float().fill_diagonal_(0.0)
    return is_sibling @ truth.masks.flatten(1)


def pixel_loss(logits: Tensor, truths: Sequence[Truth], matches: Sequence[Match], queries: Queries) -> Tensor:
    """Return the cross-entropy of a softmax over the queries of (B, Q, h, w) at each pixel; logit 0 is "no query".

    Post-processing assigns each pixel to one query as well.  The softmax is over the matched queries and those of
    exhaustively annotated classes, so that a second query of a class is penalized for showing a thing twice.
    """
    batch, count, height, width = logits.shape
    is_included = torch.zeros(batch, count, dtype=torch.bool, device=logits.device)
    targets = torch.full((batch, height, width), IGNORE_INDEX, device=logits.device)
    for place, (truth, match) in enumerate(zip(truths, matches, strict=True)):
        is_included[place] = truth.is_exhaustive[queries.classes]
        is_included[place, match.queries] = True
        regions = len(truth.classes)
        table = torch.full((regions + 1 + NO_THING_HERE,), IGNORE_INDEX, device=logits.device)
        table[regions] = count
        table[match.regions] = match.queries
        targets[place] = table[truth.region_index]
    included = logits.masked_fill(~is_included[..., None, None], EXCLUDED_LOGIT)
    included = torch.cat([included, included.new_zeros(batch, 1, height, width)], 1)
    losses = cross_entropy(included, targets, ignore_index=IGNORE_INDEX, reduction="none")
    confidence = torch.stack([truth.confidence for truth in truths]) * (targets != IGNORE_INDEX)
    return (losses * confidence).sum() / confidence.sum().clamp(min=1)


def absence_loss(logits: Tensor, truths: Sequence[Truth], queries: Queries, stuff: Tensor) -> Tensor:
    """Return minus the log of the probability that a pixel is shown by none of the queries that cannot show it.

    That is the loss of a partial label: where an image shows no certain class, the queries of certain classes cannot
    show it, and where it shows no thing, those of things cannot.  The softmax is over all queries of (B, Q, h, w);
    logit 0 is "no query".
    """
    table = torch.zeros(1 + NO_THING_HERE, 1 + logits.shape[1], dtype=torch.bool, device=logits.device)
    losses, weights = [], []
    for image, truth in zip(logits, truths, strict=True):
        table[NO_CERTAIN_CLASS, :-1] = truth.is_certain[queries.classes]
        table[NO_THING_HERE, :-1] = ~stuff[queries.classes]
        kinds = truth.region_index - len(truth.classes)
        is_partial = kinds >= NO_CERTAIN_CLASS
        scores = torch.cat([image[:, is_partial], image.new_zeros(1, int(is_partial.sum()))]).T  # (p, Q + 1)
        allowed = scores.masked_fill(table[kinds[is_partial]], EXCLUDED_LOGIT)
        losses.append(scores.logsumexp(1) - allowed.logsumexp(1))
        weights.append(truth.confidence[is_partial])
    weight = torch.cat(weights)
    return (torch.cat(losses) * weight).sum() / weight.sum().clamp(min=1)


def consistency_loss(class_logits: Tensor, mask_logits: Tensor, views: int) -> Tensor:
    """Return how far the views of an image differ in the classes of their queries and in the query at each pixel.

    It is the divergence (Kullback and Leibler) of each view from the mean of the views: summed over the queries, and
    averaged over the pixels.

    Args:
        class_logits, mask_logits: (V * B, Q, C + 1) and (V * B, Q, h, w), see compute_loss.
    """
    if views == 1:
        return mask_logits.new_zeros(())
    classes = class_logits.float().log_softmax(-1)
    masks = torch.cat([mask_logits.float(), mask_logits.new_zeros(len(mask_logits), 1, *mask_logits.shape[2:])], 1)
    pixels = masks.log_softmax(1).movedim(1, -1)
    return view_divergence(classes, views).sum(-1).mean() + view_divergence(pixels, views).mean()


def view_divergence(log_probs: Tensor, views: int) -> Tensor:
    """(V * B, ..., K) log-probabilities -> (V, B, ...), the divergence of each view from the mean, a constant."""
    by_view = log_probs.reshape(views, -1, *log_probs.shape[1:])
    mean = by_view.exp().mean(0).detach()
    return (mean * (mean.clamp(min=1e-8).log() - by_view)).sum(-1)


def mirrored_consistency_loss(output: Any, queries: Queries, views: int) -> Tensor:
    """Return how far the views of an image differ in the classes that they show at each pixel.

    It is the squared distance from the mean of the views, summed over the classes and averaged over the pixels.  How
    far a class is shown is the sum, over its queries, of class probability times mask probability.

    Args:
        output: of V views of B images, mirrored ones mirrored back.
    """
    own_class = queries.classes.expand(len(output.class_queries_logits), -1)[..., None]
    probs = output.class_queries_logits.float().softmax(-1).gather(2, own_class)  # (V * B, Q, 1)
    shown = probs[..., None] * output.masks_queries_logits.float().sigmoid()
    maps = shown.new_zeros(len(shown), int(queries.classes.max()) + 1, *shown.shape[2:])
    by_view = maps.index_add(1, queries.classes, shown).reshape(views, -1, *maps.shape[1:])
    distances: Tensor = (by_view - by_view.mean(0)) ** 2
    return distances.sum(2).mean()
