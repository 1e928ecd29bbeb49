"""The transformer decoder: masked attention of queries to the pixel decoder's levels.

See "Mask2Former" (Cheng et al., 2022, section 3.2).
"""

# torch leaves Tensor.unflatten() untyped, and what a Module returns is Any.
# mypy: disable-error-code="no-untyped-call, no-any-return"

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from worker.engine.mask2former.fast_forward.attention import FusedCrossAttention, FusedSelfAttention
from worker.engine.mask2former.fast_forward.casting import disable_autocast
from worker.engine.mask2former.fast_forward.modules import require


class QueryLogits(NamedTuple):
    """The network's output, with the names of transformers: (B, Q, C + 1) and (B, Q, h, w), both float32."""

    class_queries_logits: Tensor
    masks_queries_logits: Tensor


class FusedQueryDecoder(nn.Module):
    """Masked attention.  Only the last layer's masks are computed at full size.

    The other layers' masks serve only as attention masks.  So the finest map is resized to the level's size before the
    product with the queries instead of the product after it: both operations are linear.  So is the projection of the
    map to pixel embeddings, which is applied to the queries instead, of which there are fewer than pixels.
    """

    float32_modules = ("mask_embedder", "class_predictor", "mask_projection")

    def __init__(self, module: Any, class_predictor: nn.Module, mask_projection: Any) -> None:
        super().__init__()
        decoder = module.decoder
        require(all(not layer.pre_norm for layer in decoder.layers), "norms after the blocks")
        self.input_projections = module.input_projections
        self.level_embed = module.level_embed.weight
        self.query_features, self.query_positions = module.queries_features.weight, module.queries_embedder.weight
        self.layers = nn.ModuleList(FusedDecoderLayer(layer) for layer in decoder.layers)
        self.layernorm = decoder.layernorm
        self.mask_embedder = decoder.mask_predictor.mask_embedder
        require(mask_projection.kernel_size == (1, 1), "a projection of each pixel")
        self.mask_projection = mask_projection
        self.class_predictor = class_predictor
        self._embed = module.position_embedder
        self._positions: dict[tuple[torch.Size, torch.device], Tensor] = {}

    def forward(self, levels: Sequence[Tensor], pixels: Tensor) -> QueryLogits:
        """levels: the coarsest first, (B, C, h, w); pixels: (B, C, H, W), the finest map."""
        memories, positions = self._project_levels(levels), [self._get_positions(level) for level in levels]
        resized = [interpolate(pixels, size=one.shape[-2:], mode="bilinear", align_corners=False) for one in levels]
        x = self.query_features.expand(len(pixels), -1, -1)  # (B, Q, C)
        for number, layer in enumerate(self.layers):
            level = number % len(levels)
            visible = self._predict_masks(self.layernorm(x), resized[level]).flatten(2) >= 0  # (B, Q, S)
            # A query with an empty mask attends to all positions.
            visible = visible | ~visible.any(-1, keepdim=True)
            x = layer(x, self.query_positions, memories[level], positions[level], visible)
        x = self.layernorm(x)
        with disable_autocast(x):
            return QueryLogits(self.class_predictor(x.float()), self._predict_masks(x.float(), pixels.float()))

    def _predict_masks(self, x: Tensor, pixels: Tensor) -> Tensor:
        """(B, Q, C) queries and (B, C, h, w) pixels -> (B, Q, h, w) logits."""
        embedded = self.mask_embedder(x)  # (B, Q, C')
        weight, bias = (one.to(embedded.dtype) for one in (self.mask_projection.weight, self.mask_projection.bias))
        logits = embedded @ weight.flatten(1) @ pixels.flatten(2) + (embedded @ bias)[..., None]
        return logits.unflatten(2, pixels.shape[-2:])

    def _project_levels(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return the values that queries attend to on each level, (B, S, C)."""
        return [
            project(level).flatten(2).transpose(1, 2) + embedding
            for project, level, embedding in zip(self.input_projections, levels, self.level_embed, strict=True)
        ]

    def _get_positions(self, level: Tensor) -> Tensor:
        """Return the position embeddings of a level, (1, S, C), computed once for each size."""
        size = level.shape[-2:]
        if (size, level.device) not in self._positions:
            shape = torch.Size((1, level.shape[1], *size))
            embeddings = self._embed(shape, level.device, torch.float32, None).flatten(2).transpose(1, 2)
            self._positions[size, level.device] = embeddings.contiguous()
        return self._positions[size, level.device]


class FusedDecoderLayer(nn.Module):
    """Cross-attention, then self-attention of the queries.  Batch first, and no attention weights are returned."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.cross_attention = FusedCrossAttention(layer.cross_attn)
        self.self_attention = FusedSelfAttention(layer.self_attn)
        self.cross_attn_layer_norm = layer.cross_attn_layer_norm
        self.self_attn_layer_norm = layer.self_attn_layer_norm
        self.fc1, self.activation, self.fc2 = layer.fc1, layer.activation_fn, layer.fc2
        self.final_layer_norm = layer.final_layer_norm

    def forward(self, x: Tensor, query_positions: Tensor, memory: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
        """One layer: (B, Q, C) -> (B, Q, C).

        Args:
            x: (B, Q, C).
            query_positions: (Q, C).
            memory, positions: (B, S, C) and (1, S, C), of one level.
            visible: (B, Q, S) bool, the attention mask.
        """
        attended = self.cross_attention(x + query_positions, memory + positions, memory, visible)
        x = self.cross_attn_layer_norm(x + attended)
        x = self.self_attn_layer_norm(x + self.self_attention(x + query_positions, x))
        return self.final_layer_norm(x + self.fc2(self.activation(self.fc1(x))))
