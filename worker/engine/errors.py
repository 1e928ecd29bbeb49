"""From exceptions of torch and transformers to the errors of this project."""

import torch

from shared.errors import EngineFailed, MaskmillError, OutOfMemory


def translate_error(error: Exception) -> MaskmillError:
    """Return OutOfMemory or EngineFailed for a failure of device or model; the original is its cause."""
    translated: MaskmillError
    if is_out_of_memory(error):
        translated = OutOfMemory("The image does not fit into the device's memory.")
    else:
        translated = EngineFailed(f"The model failed on this image: {type(error).__name__}.")
    # Without its traceback, which would keep the tensors of the failed pass.
    translated.__cause__ = error.with_traceback(None)
    return translated


def is_out_of_memory(error: Exception) -> bool:
    # torch has no exception class of its own for a CPU without memory.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def summarize_error(error: Exception) -> str:
    """Shorten an error to one sentence."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .")
    return f"{line}."
