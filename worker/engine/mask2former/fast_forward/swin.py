"""Swin's window attention ("Swin Transformer", Liu et al., 2021, section 3.2) with fewer copies."""

# torch leaves Tensor.unflatten() untyped, and what a Module returns is Any.
# mypy: disable-error-code="no-untyped-call, no-any-return"

from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from worker.engine.mask2former.fast_forward.attention import attend
from worker.engine.mask2former.fast_forward.modules import concatenate_linears

# Added to the attention scores of positions that are not neighbours in the image, as in transformers.
MASKED_SCORE: Final = -100.0


class WindowLayout(NamedTuple):
    """How a map (h, w), padded to S positions, is divided into windows of T positions.

    order: (S,), for each position in each window its index in the padded map.
    inverse: (h * w,), for each position of the map its index in `order`.
    mask: (windows or 1, heads, T, T), added to the attention scores between the positions of a window.
    """

    order: Tensor
    inverse: Tensor
    mask: Tensor


class FusedSwinLayer(nn.Module):
    """One Swin layer.  Roll and window partition are one gather of rows, and so is their inverse.

    The layout does not depend on the image, so it is kept for the last size.  Query, key and value are one product.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention = layer.attention
        self.heads, self.side, self.shift = attention.num_attention_heads, layer.window_size, layer.shift_size
        self.layernorm_before, self.layernorm_after = layer.layernorm_before, layer.layernorm_after
        self.projections = concatenate_linears(attention.q_proj, attention.k_proj, attention.v_proj)
        self.o_proj, self.mlp = attention.o_proj, layer.mlp
        self.relative_position_bias = attention.relative_position_bias
        self._cached: tuple[tuple[int, int], WindowLayout] | None = None

    def forward(self, x: Tensor, size: tuple[int, int], **_: Any) -> tuple[Tensor, None]:
        """x: (B, h * w, C) -> (B, h * w, C), and None in place of attention weights, as the original does."""
        layout = self._get_layout(size)
        x = x + self._attend(self._pad(self.layernorm_before(x), size), layout)
        return x + self.mlp(self.layernorm_after(x)), None

    def _attend(self, x: Tensor, layout: WindowLayout) -> Tensor:
        """(B, S, C) -> (B, h * w, C), where S are the positions of the padded map."""
        batch, positions, channels = x.shape
        windows = gather_rows(x, layout.order).view(-1, self.side**2, channels)
        mask = layout.mask if len(layout.mask) == 1 else layout.mask.repeat(batch, 1, 1, 1)
        attended = attend(self.projections(windows).chunk(3, -1), self.heads, mask)
        return gather_rows(self.o_proj(attended).view(batch, positions, channels), layout.inverse)

    def _pad(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, h * w, C) -> (B, S, C), with zeros below and to the right, to fill the last windows."""
        below, right = (-length % self.side for length in size)
        return pad(x.unflatten(1, size), (0, 0, 0, right, 0, below)).flatten(1, 2) if below or right else x

    def _get_layout(self, size: tuple[int, int]) -> WindowLayout:
        if self._cached is None or self._cached[0] != size:
            self._cached = size, self._build_layout(*size)
        return self._cached[1]

    def _build_layout(self, height: int, width: int) -> WindowLayout:
        weight = self.projections.weight
        rows, columns = (torch.arange(length + -length % self.side, device=weight.device) for length in (height, width))
        indices = rows[:, None] * len(columns) + columns
        order = self._partition(indices.roll((-self.shift, -self.shift), (0, 1))).flatten()
        mask = self.relative_position_bias().float()
        if self.shift:
            # Positions that were rolled in from the opposite edge are not neighbours.
            regions = self._partition(3 * self._label_regions(rows)[:, None] + self._label_regions(columns))
            mask = mask + MASKED_SCORE * (regions[:, None, None, :] != regions[:, None, :, None])
        return WindowLayout(order, order.argsort()[indices[:height, :width].flatten()], mask.to(weight))

    def _label_regions(self, indices: Tensor) -> Tensor:
        """Label rows or columns of the rolled map: 0 before the last window, 1 in it, 2 in it and rolled in."""
        return (indices >= len(indices) - self.side).long() + (indices >= len(indices) - self.shift)

    def _partition(self, indices: Tensor) -> Tensor:
        """Cut a map (rows, columns) into windows: (windows, T)."""
        return indices.unfold(0, self.side, self.side).unfold(1, self.side, self.side).flatten(2).flatten(0, 1)


def is_swin_stage(module: nn.Module) -> bool:
    # By its name, because a newer transformers may have moved the class.
    return type(module).__name__ == "SwinStage"


def fuse_swin(backbone: nn.Module) -> nn.Module:
    """Replace the layers of a Swin backbone by fused ones; in place."""
    for stage in backbone.modules():
        if is_swin_stage(stage):
            stage.blocks = nn.ModuleList(FusedSwinLayer(layer) for layer in list(stage.blocks))  # type: ignore[arg-type]
    return backbone


def gather_rows(x: Tensor, indices: Tensor) -> Tensor:
    """(B, S, C), (P,) -> (B, P, C)"""
    batch, rows, _ = x.shape
    starts = torch.arange(0, batch * rows, rows, device=x.device)
    return x.flatten(0, 1).index_select(0, (starts[:, None] + indices).flatten()).unflatten(0, (batch, -1))
