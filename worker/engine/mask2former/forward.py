"""Choose and compile the forward pass of a Mask2Former by its execution plan."""

from collections.abc import Callable
from typing import Any, Final, cast

import torch

from worker.engine.execution_plan import ExecutionPlan
from worker.engine.mask2former.fast_forward.casting import cast_weights
from worker.engine.mask2former.fast_forward.optimize import optimize_forward

# Recompilations of the same code that torch accepts for each batch size; its default is 8 in all.
RECOMPILES_PER_SIZE: Final = 4


def build_forward(network: Any, plan: ExecutionPlan) -> Callable[..., Any]:
    """Return a function from pixel_values (B, 3, H, W) float32 to logits; it shares the network's weights."""
    if not plan.is_fast:
        return cast(Callable[..., Any], network)
    forward = optimize_forward(network)
    if plan.dtype is not torch.float32:
        cast_weights(forward, plan.dtype)
    return forward


def compile_forward(forward: Callable[..., Any], plan: ExecutionPlan, device: str) -> Callable[..., Any]:
    """Return a forward pass that is compiled for each batch size on its first call; as it is without compiled sizes."""
    if not plan.compiled_sizes:
        return forward
    # Each size is a recompilation of the same code.
    recompiles = RECOMPILES_PER_SIZE * len(plan.compiled_sizes)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, recompiles)
    # On a GPU launching the kernels of a small batch takes longer than running them: CUDA graphs launch all at once.
    mode = "reduce-overhead" if torch.device(device).type == "cuda" else None
    return torch.compile(forward, dynamic=False, mode=mode)
