"""The running mean of a network's weights, which is better than where the last step happened to leave them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RunningMean:
    """weights: by their names, float32, changed in place."""

    weights: dict[str, Tensor]
    decay: float

    def follow(self, current: Mapping[str, Tensor], step: int) -> None:
        """Move towards the current weights; quickly at first, when what was before is worth little."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, mean in self.weights.items():
                mean.lerp_(current[name].detach().to(mean), 1 - decay)


def running_mean(learned: Mapping[str, Tensor], decay: float) -> RunningMean:
    return RunningMean({name: one.detach().clone().float() for name, one in learned.items()}, decay)
