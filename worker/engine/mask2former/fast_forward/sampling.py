"""Bilinear sampling of several feature levels at fractional positions: the core of deformable attention.

See "Deformable DETR" (Zhu et al., 2021).  A level is one feature map (h, w); the levels of a value tensor (B, S, C) lie
one behind the other, so S is the sum of all h * w.
"""

# torch leaves Tensor.split() and unflatten() untyped, and what they return is Any.
# mypy: disable-error-code="no-untyped-call, no-any-return"

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, grid_sample

# Rows and columns of zeros before and after a level.
PADDING: Final = (1, 2)
Shapes = tuple[tuple[int, int], ...]


class SamplingGrid:
    """Positions and memory layout of the levels of one set of shapes; float32, in pixels of a level.

    shapes: (height, width) of each level.
    x, y: (S, heads * levels * points), each position repeated for each of its sampling points on each level.
    """

    def __init__(self, shapes: Shapes, device: torch.device, *, heads: int, points: int) -> None:
        self.shapes, self.heads, self.points = shapes, heads, points
        sizes = torch.tensor([[width, height] for height, width in shapes], dtype=torch.float32, device=device)
        centres = torch.cat([pixel_centres(height, width, device) for height, width in shapes])
        positions = centres[:, None] * sizes - 0.5
        self.x, self.y = (self._expand(positions[:, :, axis]) for axis in (0, 1))
        # Each level is padded with zeros, which is what a sample outside of it counts as.
        self.padded_shapes = [(height + sum(PADDING), width + sum(PADDING)) for height, width in shapes]
        areas = [height * width for height, width in self.padded_shapes]
        self.starts = [sum(areas[:number]) for number in range(len(areas))]
        self.row_count = sum(areas)
        strides = torch.tensor([float(width * heads) for _, width in self.padded_shapes], device=device)
        self.strides, self.max_x, self.max_y = map(self._expand, (strides, sizes[:, 0], sizes[:, 1]))
        first_pixels = [start + width + 1.0 for start, (_, width) in zip(self.starts, self.padded_shapes, strict=True)]
        head = torch.arange(heads, device=device).repeat_interleave(len(shapes) * points)
        self.origins = self._expand(torch.tensor(first_pixels).to(device) * heads) + head
        below = self.strides.to(torch.int32)
        self.corners = torch.stack([torch.zeros_like(below), torch.full_like(below, heads), below, below + heads])

    def _expand(self, level_values: Tensor) -> Tensor:
        """Repeat a value of each level for each head and point: (..., levels) -> (..., heads * levels * points)."""
        return level_values.repeat_interleave(self.points, -1).repeat(*[1] * (level_values.dim() - 1), self.heads)

    def pad_levels(self, value: Tensor) -> Tensor:
        """Pad each level with zeros: (B, S, heads * d) -> (B * row_count * heads, d)."""
        rows = value.new_zeros(len(value), self.row_count, value.shape[2])
        for start, padded, shape, level in zip(
            self.starts, self.padded_shapes, self.shapes, split_levels(value, self.shapes), strict=True
        ):
            target = rows[:, start : start + padded[0] * padded[1]].unflatten(1, padded)
            target[:, 1 : 1 + shape[0], 1 : 1 + shape[1]] = level.unflatten(1, shape)
        return rows.view(-1, value.shape[2] // self.heads)


def split_levels(value: Tensor, shapes: Shapes) -> tuple[Tensor, ...]:
    """(B, S, C) -> one (B, h * w, C) for each level."""
    return value.split([height * width for height, width in shapes], dim=1)


def pixel_centres(height: int, width: int, device: torch.device) -> Tensor:
    """Return (x, y) of the centre of each pixel as a share of width and height, row by row: (h * w, 2) in (0, 1)."""
    y, x = torch.meshgrid(
        (torch.arange(height, device=device) + 0.5) / height,
        (torch.arange(width, device=device) + 0.5) / width,
        indexing="ij",
    )
    return torch.stack([x, y], -1).flatten(0, 1)


def sample_with_embedding_bag(value: Tensor, grid: SamplingGrid, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Sample all levels at once: each head of each query is the weighted sum of a bag of rows.

    On a CPU this takes a fraction of the time of grid_sample, whose access along channels is not contiguous.

    Args:
        value: (B, S, heads * d), the levels one behind the other.
        x, y: (B, Q, heads * levels * points), in pixels of each level; overwritten.
        weights: of that shape.

    Returns:
        (B, Q, heads * d).
    """
    batch, queries, _ = weights.shape
    x = torch.minimum(x.clamp_(min=-1), grid.max_x)
    y = torch.minimum(y.clamp_(min=-1), grid.max_y)
    # Integers far below 2 ** 24, so exact in float32.
    column, row = x.floor(), y.floor()
    right_share, below_share = x.sub_(column), y.sub_(row)
    first = torch.addcmul(torch.add(grid.origins, column, alpha=grid.heads), row, grid.strides).to(torch.int32)
    first += torch.arange(batch, device=value.device, dtype=torch.int32).view(-1, 1, 1) * (grid.row_count * grid.heads)
    indices = first + grid.corners[:, None, None]  # (4, B, Q, heads * levels * points)
    output = embedding_bag(
        group_by_head(indices, grid.heads),
        grid.pad_levels(value),
        mode="sum",
        per_sample_weights=group_by_head(corner_weights(weights, right_share, below_share), grid.heads),
    )
    return output.view(batch, queries, -1)


def corner_weights(weights: Tensor, right_share: Tensor, below_share: Tensor) -> Tensor:
    """Distribute each weight over the four neighbours of its sampling point: (4, *weights.shape).

    The order is top left, top right, bottom left, bottom right, as in SamplingGrid.corners.
    """
    shares = weights.new_empty(4, *weights.shape)
    right = weights * right_share
    left = weights - right
    torch.mul(left, below_share, out=shares[2])
    torch.mul(right, below_share, out=shares[3])
    torch.sub(left, shares[2], out=shares[0])
    torch.sub(right, shares[3], out=shares[1])
    return shares


def group_by_head(corners: Tensor, heads: int) -> Tensor:
    """(4, B, Q, heads * n) -> (B * Q * heads, 4 * n)"""
    return corners.unflatten(-1, (heads, -1)).permute(1, 2, 3, 0, 4).flatten(0, 2).flatten(1)


def sample_with_grid_sample(value: Tensor, grid: SamplingGrid, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Sample level by level with grid_sample, which is fast on CUDA and which compilers fuse.

    Arguments and result are those of sample_with_embedding_bag().
    """
    batch, queries, _ = weights.shape
    split = (grid.heads, len(grid.shapes), grid.points)
    positions = torch.stack([x, y], -1).unflatten(2, split).permute(0, 2, 3, 1, 4, 5).flatten(0, 1)
    shares = weights.unflatten(2, split).permute(0, 2, 3, 1, 4).flatten(0, 1)  # (B * heads, levels, Q, points)
    output = value.new_zeros(batch * grid.heads, value.shape[2] // grid.heads, queries)
    levels = split_levels(value, grid.shapes)
    for number, ((height, width), level) in enumerate(zip(grid.shapes, levels, strict=True)):
        plane = level.transpose(1, 2).reshape(batch * grid.heads, -1, height, width)
        scale = torch.stack([positions.new_full((), 2 / width), positions.new_full((), 2 / height)])
        coordinates = (positions[:, number] + 0.5) * scale - 1
        sampled = grid_sample(plane, coordinates, padding_mode="zeros", align_corners=False)
        output = output + (sampled * shares[:, None, number]).sum(-1)
    return output.unflatten(0, (batch, grid.heads)).permute(0, 3, 1, 2).flatten(2)
