"""Which plan the forward pass uses: from the settings' words and the device to one decision."""

from dataclasses import dataclass
from typing import Final, Literal

import torch

from shared.errors import ModelUnusable

Forward = Literal["auto", "exact", "fast"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

# The first GPUs that multiply bfloat16 quickly.
AMPERE: Final = (8, 0)
CPU_CAPABILITIES: Final = ("amx_bf16", "avx512_bf16")
MEGABYTE: Final = 2**20
BAND_MEGABYTES: Final = {"cpu": 256, "cuda": 2048}


@dataclass(frozen=True, slots=True)
class ExecutionOptions:
    """What somebody set.

    compiles: whether the forward pass is compiled, for batches of up to max_images.
    band_megabytes: what post-processing one image may take; 0 leaves it to the device.
    """

    forward: Forward = "auto"
    dtype: Dtype = "auto"
    compiles: bool = False
    max_images: int = 16
    band_megabytes: int = 0


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """What is done.

    is_fast: the quicker forward pass; otherwise the reference's own, in float32.
    compiled_sizes: the batch sizes that it is compiled for, smallest first; none of them means not compiled.
    band_bytes: what post-processing one image may take.
    """

    is_fast: bool = False
    dtype: torch.dtype = torch.float32
    compiled_sizes: tuple[int, ...] = ()
    band_bytes: int = BAND_MEGABYTES["cpu"] * MEGABYTE

    def revision_of(self, weights: str) -> str:
        """Return what tells these weights under this plan from any other whose results may differ."""
        if not self.is_fast:
            return weights
        return f"{weights}-fast-{str(self.dtype).removeprefix('torch.')}{'-compiled' if self.compiled_sizes else ''}"


def plan_execution(options: ExecutionOptions, device: str) -> ExecutionPlan:
    """Weigh the options against the device.

    Raises:
        ModelUnusable: they contradict each other.
    """
    kind = torch.device(device).type
    is_shortened = options.dtype in ("bfloat16", "float16")
    if options.forward == "exact" and (is_shortened or options.compiles):
        raise ModelUnusable("The exact forward pass is float32 and not compiled: set MASKMILL_FORWARD=fast.")
    is_fast = options.forward == "fast" or (options.forward == "auto" and (kind == "cuda" or is_shortened))
    is_fast = is_fast or options.compiles
    return ExecutionPlan(
        is_fast=is_fast,
        dtype=_dtype(options.dtype) if is_fast else torch.float32,
        compiled_sizes=batch_sizes(options.max_images) if options.compiles else (),
        band_bytes=(options.band_megabytes or BAND_MEGABYTES.get(kind, BAND_MEGABYTES["cpu"])) * MEGABYTE,
    )


def batch_sizes(most: int) -> tuple[int, ...]:
    """Return the powers of two below `most`, and `most`: 1, 2, 4, ..., so that padding at most doubles a batch."""
    return (*(2**power for power in range(most.bit_length()) if 2**power < most), most)


def has_fast_bfloat16(device: str) -> bool:
    """Tell whether the device multiplies bfloat16 faster than float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in CPU_CAPABILITIES)


def _dtype(wish: Dtype) -> torch.dtype:
    """Return what was asked for.  Shorter numbers are never a default: whether a model bears them is to be measured."""
    return {
        "auto": torch.float32,
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }[wish]
