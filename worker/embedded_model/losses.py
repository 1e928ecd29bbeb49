"""What the embedded model is trained on: query c answers for class c, so nothing has to be matched."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, cross_entropy, one_hot

# Most classes are absent from most photos; at full weight their silence would drown the others.
ABSENT_WEIGHT: Final = 0.15
# The early layers' masks are rough, and steer only attention.
SUPERVISED_LAYERS: Final = 3


@dataclass(frozen=True, slots=True)
class Truth:
    """present: (B, C) bool.  masks: (B, C, h, w), which share of each cell belongs to the class."""

    present: Tensor
    masks: Tensor


@dataclass(frozen=True, slots=True)
class Loss:
    classes: Tensor
    masks: Tensor

    @property
    def total(self) -> Tensor:
        return self.classes + self.masks


def truth_of(class_maps: Tensor, classes: int, *, stride: int) -> Truth:
    """(B, H, W) class numbers, anything from `classes` up being none of ours -> masks at a coarser stride."""
    planes = one_hot(class_maps.long().clamp(max=classes), classes + 1)[..., :classes]  # (B, H, W, C)
    masks = avg_pool2d(planes.permute(0, 3, 1, 2).float(), stride)
    return Truth(masks.flatten(2).any(2), masks)


def loss_of(output: Any, truth: Truth) -> Loss:
    """Sum the losses of the last prediction layers of a Mask2Former."""
    early = output.auxiliary_logits[1 - SUPERVISED_LAYERS :]
    layers = [(layer["class_queries_logits"], layer["masks_queries_logits"]) for layer in early]
    layers.append((output.class_queries_logits, output.masks_queries_logits))
    return Loss(
        classes=torch.stack([class_loss(classes, truth.present) for classes, _ in layers]).sum(),
        masks=torch.stack([mask_loss(masks, truth) for _, masks in layers]).sum(),
    )


def class_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Ask each query for its own class where that is present, and for nothing elsewhere.

    Args:
        logits: (B, C, C + 1), the last one is nothing.
        present: (B, C) bool.
    """
    classes = present.shape[1]
    own = torch.arange(classes, device=present.device).expand_as(present)
    wanted = torch.where(present, own, classes)
    weights = torch.where(present, 1.0, ABSENT_WEIGHT)
    each = cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    return (each * weights.flatten()).sum() / weights.sum()


def mask_loss(logits: Tensor, truth: Truth) -> Tensor:
    """Compare the masks (B, C, h, w) of the classes that are present: cross-entropy of pixels, and dice."""
    if not truth.present.any():
        return logits.sum() * 0
    guess, wanted = logits[truth.present].flatten(1), truth.masks[truth.present].flatten(1)
    odds = guess.sigmoid()
    dice = 1 - (2 * (odds * wanted).sum(1) + 1) / (odds.sum(1) + wanted.sum(1) + 1)
    return binary_cross_entropy_with_logits(guess, wanted) + dice.mean()
