"""Helpers to build modules from the weights of others."""

import torch
from torch import Tensor, nn


def build_linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a linear module that uses existing weights (out, in) and bias (out,), without a copy."""
    module = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    module.weight, module.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    return module


def concatenate_linears(*modules: nn.Linear) -> nn.Linear:
    """Return one linear module that computes the outputs of several, one behind the other."""
    return build_linear(torch.cat([one.weight for one in modules]), torch.cat([one.bias for one in modules]))


def require(condition: bool, expectation: str) -> None:
    """Check that a module of transformers is built as its fused version needs it.

    Raises:
        TypeError: it is not.
    """
    if not condition:
        raise TypeError(f"expected {expectation}")
