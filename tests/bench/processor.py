"""What the processor of this machine computes fast."""

import torch

# Instruction sets with which a CPU multiplies bfloat16 faster than float32.
BFLOAT16_CAPABILITIES = ("amx_bf16", "avx512_bf16")


def has_fast_bfloat16() -> bool:
    """Tell whether the CPU multiplies bfloat16 faster than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in BFLOAT16_CAPABILITIES)
