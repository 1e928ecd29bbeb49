"""Normalization of 8-bit pixels through a table, on the device: it gives the bits of the image processor's arithmetic.

A channel of a pixel has 256 values, so the processor's rescaling and normalization of all of them fit a small table.
The pixels are copied to the device as bytes, a quarter of the size of floats.
"""

import numpy as np
import torch
from PIL.Image import fromarray
from torch import Tensor
from transformers import Mask2FormerImageProcessorPil


def build_normalization(processor: Mask2FormerImageProcessorPil) -> Tensor:
    """Return (3, 256) float32: the processor's output for each channel and each value of a pixel."""
    values = np.arange(256, dtype=np.uint8)
    image = fromarray(np.stack([values] * 3, axis=-1)[None])  # one row with every value
    prepared = processor(images=[image], do_resize=False, pad_size=None, return_tensors="pt")
    table: Tensor = prepared["pixel_values"][0, :, 0]
    return table


def normalize(pixels: Tensor, table: Tensor) -> Tensor:
    """Return (B, 3, h, w) float32 from (B, h, w, 3) uint8 on the same device as the table."""
    batch, height, width, channels = pixels.shape
    planes = pixels.permute(3, 0, 1, 2).int().reshape(channels, -1)
    output = torch.empty((batch, channels, height, width), dtype=table.dtype, device=table.device)
    for channel in range(channels):
        output[:, channel] = table[channel].index_select(0, planes[channel]).view(batch, height, width)
    return output
