"""Exponential moving average of a network's weights (Polyak averaging), which generalizes better than the last step."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class MovingAverage:
    """weights: by name, float32, updated in place.  decay: in [0, 1)."""

    weights: dict[str, Tensor]
    decay: float

    @classmethod
    def start(cls, weights: Mapping[str, Tensor], decay: float) -> "MovingAverage":
        """Start from a float32 copy of the weights."""
        return cls({name: weight.detach().clone().float() for name, weight in weights.items()}, decay)

    def update(self, current: Mapping[str, Tensor], step: int) -> None:
        """Move towards the current weights.

        The decay starts at 0.1 and rises to `decay`: min(decay, (1 + step) / (10 + step)), as in TensorFlow's
        ExponentialMovingAverage with `num_updates`.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, average in self.weights.items():
                average.lerp_(current[name].detach().to(average), 1 - decay)
