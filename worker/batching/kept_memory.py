"""Kept logits in shared memory: written by the engine's side of a host, read by the host.

The thread that writes replies copies them, not that of the device.
"""

import numpy as np

from worker.batching.messages import KeptShape, Submit
from worker.recut.kept import KeptLogits
from worker.slabs import Slab, SlabPool


def write(pool: SlabPool, request: Submit, kept: KeptLogits) -> KeptShape | None:
    """Copy logits to where a request wants them, and return what is there; None if they do not fit."""
    if request.keep is None or kept.nbytes > request.keep.max_bytes:
        return None
    queries, classes = kept.class_logits.shape
    rows, columns = kept.mask_logits.shape[-2:]
    shape = KeptShape(kept.floor, queries, classes, rows, columns, tuple(kept.queries.tolist()))
    memory = pool.view(Slab(request.kept_offset, request.keep.max_bytes), (kept.nbytes // 4,), np.float32)
    memory[: kept.class_logits.size] = kept.class_logits.ravel()
    memory[kept.class_logits.size :] = kept.mask_logits.ravel()
    return shape


def read(pool: SlabPool, request: Submit, shape: KeptShape) -> KeptLogits | None:
    """Return a copy of the logits that the engine has written; None if none were wanted."""
    if request.keep is None:
        return None
    class_count, mask_count = shape.queries * shape.classes, len(shape.kept) * shape.rows * shape.columns
    memory = pool.view(Slab(request.kept_offset, request.keep.max_bytes), (class_count + mask_count,), np.float32)
    values = memory.copy()
    return KeptLogits(
        shape.floor,
        values[:class_count].reshape(shape.queries, shape.classes),
        np.array(shape.kept, np.int64),
        values[class_count:].reshape(len(shape.kept), shape.rows, shape.columns),
    )
