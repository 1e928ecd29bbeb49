"""The pixel decoder: deformable attention over three levels, and a feature pyramid for the finest map."""

# torch leaves Tensor.split() and unflatten() untyped, and what a Module returns is Any.
# mypy: disable-error-code="no-untyped-call, no-any-return"

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from worker.engine.mask2former.fast_forward.deformable_attention import FusedDeformableAttention
from worker.engine.mask2former.fast_forward.modules import require
from worker.engine.mask2former.fast_forward.sampling import SamplingGrid, Shapes, split_levels
from worker.engine.mask2former.fast_forward.winograd import transform_convolutions


class FusedPixelDecoder(nn.Module):
    """transformers' pixel decoder without padding masks, because images are never padded here.

    The last convolution, which projects the finest map to pixel embeddings, is left to the query decoder.
    Position embeddings are computed once for each size, and in float32 for any dtype of the network: bfloat16 cannot
    distinguish neighbouring positions of a large map.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        require(decoder.num_feature_levels == len(decoder.input_projections), "one projection for each level")
        self.input_projections = decoder.input_projections
        self.layers = nn.ModuleList(FusedEncoderLayer(layer) for layer in decoder.encoder.layers)
        self.lateral_convolutions = nn.ModuleList(decoder.lateral_convolutions)
        self.output_convolutions = nn.ModuleList(map(transform_convolutions, decoder.output_convolutions))
        self.level_embed = decoder.level_embed
        self._embed = decoder.position_embedding
        self._positions: dict[tuple[Shapes, torch.device], tuple[Tensor, SamplingGrid]] = {}

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return the three levels, the coarsest first, each (B, C, h, w), and the finest map (B, C, H, W).

        Args:
            features: four maps (B, C, h, w), the finest first.
        """
        levels = [project(x) for project, x in zip(self.input_projections, features[::-1], strict=False)]
        shapes: Shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
        positions, grid = self._get_positions(shapes, levels[0])
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)  # (B, S, C)
        for layer in self.layers:
            x = layer(x, positions, grid)
        parts = split_levels(x, shapes)
        maps = [part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]
        return maps, self._merge_pyramid(maps[-1], features)

    def _merge_pyramid(self, finest: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Add the backbone's finer maps to the finest level: (B, C, h, w) -> (B, C, H, W).

        On a CPU all maps have the memory layout of the level, whose channels are contiguous: sums of maps of different
        layouts are slow.
        """
        layout = torch.channels_last if finest.device.type == "cpu" else torch.contiguous_format
        finer = features[: len(self.lateral_convolutions)][::-1]
        for lateral, output, feature in zip(self.lateral_convolutions, self.output_convolutions, finer, strict=True):
            added = lateral(feature.contiguous(memory_format=layout))
            finest = output(added + interpolate(finest, size=added.shape[-2:], mode="bilinear", align_corners=False))
        return finest

    def _get_positions(self, shapes: Shapes, like: Tensor) -> tuple[Tensor, SamplingGrid]:
        """Return the position embeddings (1, S, C) and the sampling grid for these shapes."""
        if (shapes, like.device) not in self._positions:
            attention: Any = self.layers[0].attention
            grid = SamplingGrid(shapes, like.device, heads=attention.heads, points=attention.points)
            self._positions[shapes, like.device] = self._embed_positions(shapes, like), grid
        return self._positions[shapes, like.device]

    def _embed_positions(self, shapes: Shapes, like: Tensor) -> Tensor:
        embeddings = [
            self._embed(torch.Size((1, like.shape[1], *shape)), like.device, torch.float32).flatten(2).transpose(1, 2)
            + self.level_embed[number].float()
            for number, shape in enumerate(shapes)
        ]
        return torch.cat(embeddings, 1)


class FusedEncoderLayer(nn.Module):
    """One layer of the pixel decoder's encoder."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.attention = FusedDeformableAttention(layer.self_attn)
        self.self_attn_layer_norm = layer.self_attn_layer_norm
        self.fc1, self.fc2 = layer.fc1, layer.fc2
        self.final_layer_norm = layer.final_layer_norm

    def forward(self, x: Tensor, positions: Tensor, grid: SamplingGrid) -> Tensor:
        """x: (B, S, C); positions: (1, S, C) -> (B, S, C)."""
        x = self.self_attn_layer_norm(x + self.attention(x, x + positions, grid))
        return self.final_layer_norm(x + self.fc2(self.fc1(x).relu_()))
