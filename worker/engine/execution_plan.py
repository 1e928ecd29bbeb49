"""The execution plan of a model: from an operator's options and the device to dtype, compilation and memory."""

from dataclasses import dataclass, replace
from typing import Final, Literal, Self

import torch

from shared.errors import ModelUnusable

Forward = Literal["auto", "exact", "fast"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

MEGABYTE: Final = 2**20
MEGAPIXEL: Final = 1_000_000
# Twice what the processors of published models make at most, 2048 x 1024 for Cityscapes.
MAX_INPUT_MEGAPIXELS: Final = 4.0
# Default memory for post-processing one image, by device type.
BAND_MEGABYTES: Final = {"cpu": 256, "cuda": 2048}
DTYPES: Final[dict[Dtype, torch.dtype]] = {
    # A 16-bit dtype is never a default: its effect on a model's results has to be measured first.
    "auto": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class ExecutionOptions:
    """The operator's options.

    forward: exact, fast, or chosen: fast where it agrees with exact, or where dtype or compilation need it.
    dtype: of the fast path.
    is_compiled: whether the forward pass is compiled, for batches of up to max_images.
    band_megabytes: memory for post-processing one image; 0 means the device's default.
    max_input_megapixels: what a model whose input has no fixed size gets of one image.
    """

    forward: Forward = "auto"
    dtype: Dtype = "auto"
    is_compiled: bool = False
    max_images: int = 16
    band_megabytes: int = 0
    max_input_megapixels: float = MAX_INPUT_MEGAPIXELS


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """How a model is run.

    is_fast: whether the fast path is used; otherwise the forward pass of transformers, in float32.
    is_verified: whether the fast path is used only if it agrees with the exact forward pass.
    dtype: in which autocast multiplies.
    compiled_sizes: the batch sizes that the forward pass is compiled for, ascending; empty means not compiled.
    band_bytes: memory for post-processing one image.
    max_input_pixels: what a model whose input has no fixed size gets of one image.
    """

    is_fast: bool = False
    is_verified: bool = False
    dtype: torch.dtype = torch.float32
    compiled_sizes: tuple[int, ...] = ()
    band_bytes: int = BAND_MEGABYTES["cpu"] * MEGABYTE
    max_input_pixels: int = int(MAX_INPUT_MEGAPIXELS * MEGAPIXEL)

    def without_fast_path(self) -> Self:
        """Return the plan of the exact forward pass."""
        return replace(self, is_fast=False, is_verified=False)

    def tag_revision(self, weights_revision: str) -> str:
        """Return a revision that differs wherever the weights or the results of this plan may differ."""
        if not self.is_fast:
            return weights_revision
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{weights_revision}-fast-{dtype}{'-compiled' if self.compiled_sizes else ''}"


def plan_execution(options: ExecutionOptions, device: str) -> ExecutionPlan:
    """Decide how a model is run on a device.

    Raises:
        ModelUnusable: the options contradict each other.
    """
    device_type = torch.device(device).type
    if options.forward == "exact" and needs_fast_path(options):
        raise ModelUnusable("The exact forward pass is float32 and not compiled: set MASKMILL_FORWARD=fast.")
    is_fast = options.forward != "exact"
    return ExecutionPlan(
        is_fast=is_fast,
        is_verified=is_fast and not needs_fast_path(options),
        dtype=DTYPES[options.dtype] if is_fast else torch.float32,
        compiled_sizes=batch_sizes(options.max_images) if options.is_compiled else (),
        band_bytes=(options.band_megabytes or BAND_MEGABYTES.get(device_type, BAND_MEGABYTES["cpu"])) * MEGABYTE,
        max_input_pixels=int(options.max_input_megapixels * MEGAPIXEL),
    )


def needs_fast_path(options: ExecutionOptions) -> bool:
    """Tell whether the options name the fast path, or something that only the fast path can do."""
    return options.forward == "fast" or options.dtype in ("bfloat16", "float16") or options.is_compiled


def batch_sizes(max_images: int) -> tuple[int, ...]:
    """Return the powers of two below `max_images`, and `max_images`, so that padding at most doubles a batch.

    >>> batch_sizes(6)
    (1, 2, 4, 6)
    """
    powers = (2**exponent for exponent in range(max_images.bit_length()))
    return (*(power for power in powers if power < max_images), max_images)
