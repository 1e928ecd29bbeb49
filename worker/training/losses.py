"""What the embedded model is trained on: classes and masks of its queries, and which of them each pixel belongs to.

What is unknown of a photo costs nothing: pixels that nobody labelled, and queries whose class may or may not be there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from worker.training.matching import Match, Queries, Truth

# Most queries have nothing to show in most photos; at full weight their silence would drown the others.
SILENT_WEIGHT: Final = 0.15
# Where others of their class have something to show, they should know better.
SIBLING_WEIGHT: Final = 0.3
CLASS_WEIGHT: Final = 1.0
MASK_WEIGHT: Final = 1.5
PIXEL_WEIGHT: Final = 1.0
# To show a place of another thing of one's own class is so many times worse, besides, than to show any other place.
SIBLING_PLACES: Final = 4.0
# Of a query that takes no part in the contest for a pixel.
OUT: Final = -1e4
NOT_JUDGED: Final = -100


@dataclass(frozen=True, slots=True)
class Loss:
    classes: Tensor
    masks: Tensor
    pixels: Tensor

    @property
    def total(self) -> Tensor:
        return CLASS_WEIGHT * self.classes + MASK_WEIGHT * self.masks + PIXEL_WEIGHT * self.pixels


def loss_of(output: Any, truths: Sequence[Truth], matches: Sequence[Match], queries: Queries, stuff: Tensor) -> Loss:
    """Sum the losses of the last prediction layers of a Mask2Former.

    Args:
        stuff: (C,) bool, the classes that are no things.
    """
    early = output.auxiliary_logits
    layers = [(layer["class_queries_logits"], layer["masks_queries_logits"]) for layer in early]
    layers.append((output.class_queries_logits, output.masks_queries_logits))
    wanted, weights = wanted_classes(truths, matches, queries)
    return Loss(
        classes=torch.stack([class_loss(classes.float(), wanted, weights) for classes, _ in layers]).sum(),
        masks=torch.stack([mask_loss(masks.float(), truths, matches, stuff) for _, masks in layers]).sum(),
        pixels=pixel_loss(output.masks_queries_logits.float(), truths, matches, queries),
    )


def wanted_classes(truths: Sequence[Truth], matches: Sequence[Match], queries: Queries) -> tuple[Tensor, Tensor]:
    """(B, Q) the class that each query should name, and how much it matters: not at all where nobody knows."""
    wanted, weights = [], []
    for truth, matched in zip(truths, matches, strict=True):
        named = torch.full_like(queries.classes, len(truth.certain))
        named[matched.queries] = queries.classes[matched.queries]
        silent = torch.where(present_in(truth), SIBLING_WEIGHT, SILENT_WEIGHT) * truth.certain
        weight = silent[queries.classes]
        weight[matched.queries] = truth.surety[matched.regions]
        wanted.append(named)
        weights.append(weight)
    return torch.stack(wanted), torch.stack(weights)


def present_in(truth: Truth) -> Tensor:
    """(C,) bool, the classes of which something is shown."""
    present = torch.zeros_like(truth.certain)
    present[truth.classes] = True
    return present


def class_loss(logits: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Compare (B, Q, C + 1) with the wanted classes (B, Q); the last class is nothing."""
    each = cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    return (each * weights.flatten()).sum() / weights.sum().clamp(min=1e-6)


def mask_loss(logits: Tensor, truths: Sequence[Truth], matches: Sequence[Match], stuff: Tensor) -> Tensor:
    """Compare the matched masks of (B, Q, h, w) where their pixels are known: cross-entropy, and dice.

    Places of other things of the same class weigh more: they are few, and look as if they belonged to the thing.
    """
    pairs = list(zip(truths, matches, strict=True))
    guess = torch.cat([one[matched.queries] for one, (_, matched) in zip(logits, pairs, strict=True)]).flatten(1)
    if not len(guess):
        return logits.sum() * 0
    wanted = torch.cat([truth.masks[matched.regions] for truth, matched in pairs]).flatten(1)
    known = torch.cat(
        [truth.known[1 - stuff[truth.classes[matched.regions]].long()] for truth, matched in pairs]
    ).flatten(1)
    weight = known * (1 + SIBLING_PLACES * torch.cat([siblings(truth)[matched.regions] for truth, matched in pairs]))
    each = binary_cross_entropy_with_logits(guess, wanted, weight=weight, reduction="none")
    cross = each.sum(1) / known.sum(1).clamp(min=1)
    odds = guess.sigmoid() * weight
    dice = 1 - (2 * (odds * wanted).sum(1) + 1) / (odds.sum(1) + wanted.sum(1) + 1)
    surety = torch.cat([truth.surety[matched.regions] for truth, matched in pairs])
    return ((cross + dice) * surety).sum() / surety.sum().clamp(min=1e-6)


def siblings(truth: Truth) -> Tensor:
    """(n, h * w), the share of each cell that belongs to other regions of the same class."""
    is_sibling = (truth.classes[:, None] == truth.classes).float().fill_diagonal_(0.0)
    return is_sibling @ truth.masks.flatten(1)


def pixel_loss(logits: Tensor, truths: Sequence[Truth], matches: Sequence[Match], queries: Queries) -> Tensor:
    """Let queries compete for each pixel, as they do when the map is painted; a query at 0 is as good as none.

    Those take part that were matched, and those of classes of which the truth shows all there is: where one query shows
    a thing, no other of its class may show it too.
    """
    batch, count, height, width = logits.shape
    takes_part = torch.zeros(batch, count, dtype=torch.bool, device=logits.device)
    owners = torch.full((batch, height, width), NOT_JUDGED, device=logits.device)
    for place, (truth, matched) in enumerate(zip(truths, matches, strict=True)):
        takes_part[place] = truth.certain[queries.classes]
        takes_part[place, matched.queries] = True
        regions = len(truth.classes)
        table = torch.full((regions + 2,), NOT_JUDGED, device=logits.device)
        table[regions] = count
        table[matched.regions] = matched.queries
        owners[place] = table[truth.owners]
    contest = logits.masked_fill(~takes_part[..., None, None], OUT)
    contest = torch.cat([contest, contest.new_zeros(batch, 1, height, width)], 1)
    each = cross_entropy(contest, owners, ignore_index=NOT_JUDGED, reduction="none")
    sure = torch.stack([truth.sure for truth in truths]) * (owners != NOT_JUDGED)
    return (each * sure).sum() / sure.sum().clamp(min=1)
