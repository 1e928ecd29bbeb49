"""Attention of the query decoder and of Swin's windows, as one call of scaled_dot_product_attention."""

# torch leaves Tensor.unflatten() untyped, and what a Module returns is Any.
# mypy: disable-error-code="no-untyped-call, no-any-return"

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from worker.engine.mask2former.fast_forward.modules import build_linear, require


def attend(projections: Sequence[Tensor], heads: int, mask: Tensor | None = None) -> Tensor:
    """Multi-head attention without its input and output projections.

    Args:
        projections: query (B, Q, C), key and value (B, S, C).
        mask: broadcastable to (B, heads, Q, S): bool, False excludes; or float, added to the scores.

    Returns:
        (B, Q, C).
    """
    query, key, value = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in projections)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)


class FusedCrossAttention(nn.Module):
    """torch's MultiheadAttention without the mean of its attention weights, which the decoder does not use."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        require(attention.in_proj_weight is not None and attention.bias_k is None, "one weight for all projections")
        self.heads = attention.num_heads
        # Three linear modules, so that cast_weights() finds them.
        self.projections = nn.ModuleList(
            build_linear(weight, bias)
            for weight, bias in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
        )
        self.out_proj = build_linear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
        """query: (B, Q, C); key, value: (B, S, C); visible: (B, Q, S) bool -> (B, Q, C)."""
        projections = [project(x) for project, x in zip(self.projections, (query, key, value), strict=True)]
        return self.out_proj(attend(projections, self.heads, visible[:, None]))


class FusedSelfAttention(nn.Module):
    """Self-attention in one kernel, where transformers writes out each step."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.q_proj, self.k_proj, self.v_proj = attention.q_proj, attention.k_proj, attention.v_proj
        self.out_proj = attention.out_proj

    def forward(self, positioned: Tensor, x: Tensor) -> Tensor:
        """positioned, x: (B, Q, C), with and without positions -> (B, Q, C)."""
        projections = self.q_proj(positioned), self.k_proj(positioned), self.v_proj(x)
        return self.out_proj(attend(projections, self.heads))
