"""Which weights and which operations use a 16-bit dtype."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn


def cast_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights of linear layers and convolutions in the dtype that autocast would cast them to on each use.

    Attributes that a module lists in `float32_modules` are left in float32.
    """
    excluded = {
        id(child)
        for part in module.modules()
        for name in getattr(part, "float32_modules", ())
        for child in getattr(part, name).modules()
    }
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and id(part) not in excluded:
            part.to(dtype)


def disable_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast on the tensor's device."""
    return torch.autocast(like.device.type, enabled=False)
