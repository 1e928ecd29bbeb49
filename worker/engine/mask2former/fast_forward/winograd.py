"""A 3 x 3 convolution with a quarter of the multiplications: Winograd's F(4 x 4, 3 x 3).

See "Fast Algorithms for Convolutional Neural Networks" (Lavin and Gray, 2016, sections 4.2 and 4.3).  Tiles of 6 x 6
pixels, which overlap by two, become tiles of 4 x 4 pixels; in between the sums over channels are 36 matrix products.
In float32 the results differ by some 1e-4 of their standard deviation.
"""

# torch leaves Tensor.unfold() untyped, and what a Module returns is Any.
# mypy: disable-error-code="no-untyped-call, no-any-return"

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from worker.engine.mask2former.fast_forward.modules import require

SIDE: Final = 4
TILE: Final = SIDE + 2
# From 6 pixels of the input, from 3 weights, and to 4 pixels of the output, in one dimension.
INPUT_MATRIX: Final = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
WEIGHT_MATRIX: Final = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT_MATRIX: Final = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
# Below this number of channels the transformations take longer than the products save.
MIN_CHANNELS: Final = 64
# Tiles of 6 x 6 that are transformed before they are multiplied: as many as stay in a core's cache.
TILES_AT_ONCE: Final = 100


class WinogradConv(nn.Module):
    """A convolution with 3 x 3 weights and stride 1, on a CPU in float32; elsewhere the original one.

    weight: (36, C, C').
    to_tiles, from_tiles: (36, 36) and (16, 36).
    """

    weight: Tensor
    to_tiles: Tensor
    from_tiles: Tensor

    def __init__(self, conv: Any) -> None:
        super().__init__()
        require(is_transformable(conv), "a convolution with 3 x 3 weights, stride 1, padding 1 and no bias")
        self.conv = conv
        rows = torch.tensor(WEIGHT_MATRIX, dtype=torch.float64)
        weight = torch.einsum("ij,ocjk,lk->ilco", rows, conv.weight.detach().double(), rows).flatten(0, 1)
        self.register_buffer("weight", weight.float().contiguous(), persistent=False)
        self.register_buffer("to_tiles", square(INPUT_MATRIX), persistent=False)
        self.register_buffer("from_tiles", square(OUTPUT_MATRIX), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W), with channels contiguous in memory."""
        if not can_transform(x):
            return self.conv(x)
        height, width = x.shape[2:]
        rows, columns = -(-height // SIDE), -(-width // SIDE)
        margins = 0, 0, 1, columns * SIDE - width + 1, 1, rows * SIDE - height + 1
        output = x.new_empty(len(x), rows, SIDE, columns, SIDE, self.weight.shape[2])
        step = max(1, TILES_AT_ONCE // columns)
        for padded, result in zip(pad(x.permute(0, 2, 3, 1), margins), output, strict=True):
            for row in range(0, rows, step):
                part = result[row : row + step]
                self._convolve(padded[SIDE * row : SIDE * (row + len(part)) + TILE - SIDE], part)
        return output.flatten(3, 4).flatten(1, 2)[:, :height, :width].permute(0, 3, 1, 2)

    def _convolve(self, x: Tensor, output: Tensor) -> None:
        """Convolve some rows of tiles: (4 * rows + 2, 4 * columns + 2, C), into (rows, 4, columns, 4, C')."""
        tiles = x.unfold(0, TILE, SIDE).unfold(1, TILE, SIDE)  # (rows, columns, C, 6, 6)
        tiles = self.to_tiles @ tiles.permute(3, 4, 0, 1, 2).reshape(TILE * TILE, -1)
        products = torch.bmm(tiles.view(TILE * TILE, -1, x.shape[-1]), self.weight)  # (36, rows * columns, C')
        parts = (self.from_tiles @ products.flatten(1)).view(SIDE, SIDE, len(output), output.shape[2], -1)
        output.copy_(parts.permute(2, 0, 3, 1, 4))


def can_transform(x: Tensor) -> bool:
    """Tell whether the transformation is exact and fast enough for a map: not in 16 bits, nor while compiling."""
    is_cast = x.dtype is not torch.float32 or torch.is_autocast_enabled(x.device.type)
    return x.device.type == "cpu" and not is_cast and not torch.compiler.is_compiling()


def transform_convolutions(module: nn.Sequential) -> nn.Sequential:
    """Return the modules in their order, with WinogradConv in place of each convolution that it can compute."""
    return nn.Sequential(*(WinogradConv(one) if is_transformable(one) else one for one in module))


def is_transformable(conv: Any) -> bool:
    """Tell whether a module is a convolution that WinogradConv computes, and computes faster."""
    return (
        type(conv) is nn.Conv2d
        and (conv.kernel_size, conv.stride, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
        and (conv.groups, conv.padding_mode, conv.bias) == (1, "zeros", None)
        and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
    )


def square(matrix: Any) -> Tensor:
    """Return the matrix for two dimensions: (m, n) -> (m * m, n * n)."""
    rows = torch.tensor(matrix, dtype=torch.float32)
    return torch.kron(rows, rows)
