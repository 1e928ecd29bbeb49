"""Multi-scale deformable attention ("Deformable DETR", Zhu et al., 2021, section 4.1)."""

# torch leaves Tensor.unflatten() untyped, and what a Module returns is Any.
# mypy: disable-error-code="no-untyped-call, no-any-return"

from typing import Any

from torch import Tensor, nn

from worker.engine.mask2former.fast_forward.casting import disable_autocast
from worker.engine.mask2former.fast_forward.modules import build_linear
from worker.engine.mask2former.fast_forward.sampling import (
    SamplingGrid,
    sample_with_embedding_bag,
    sample_with_grid_sample,
)


class FusedDeformableAttention(nn.Module):
    """Each position samples each level at a few learned offsets from itself."""

    float32_modules = ("x_offsets", "y_offsets", "attention_weights")

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads, self.levels, self.points = attention.n_heads, attention.n_levels, attention.n_points
        # Two modules, so that x and y are each contiguous.
        self.x_offsets, self.y_offsets = (
            build_linear(
                select_axis(attention.sampling_offsets.weight, axis), select_axis(attention.sampling_offsets.bias, axis)
            )
            for axis in (0, 1)
        )
        self.attention_weights = attention.attention_weights
        self.value_proj, self.output_proj = attention.value_proj, attention.output_proj

    def forward(self, x: Tensor, positioned: Tensor, grid: SamplingGrid) -> Tensor:
        """x, positioned: (B, S, C), without and with positions -> (B, S, C)."""
        value = self.value_proj(x)
        with disable_autocast(x):
            positioned = positioned.float()
            weights = self.attention_weights(positioned).unflatten(-1, (self.heads, -1)).softmax(-1).flatten(2)
            # The learned offsets are in pixels of each level, so they are added to positions in pixels.
            sample_x, sample_y = self.x_offsets(positioned) + grid.x, self.y_offsets(positioned) + grid.y
            sample = sample_with_embedding_bag if x.device.type == "cpu" else sample_with_grid_sample
            sampled = sample(value.float(), grid, sample_x, sample_y, weights)
        return self.output_proj(sampled)


def select_axis(offsets: Tensor, axis: int) -> Tensor:
    """Return the weights of x (0) or y (1) out of weights whose first dimension alternates between the two."""
    return offsets.unflatten(0, (-1, 2))[:, axis].contiguous()
