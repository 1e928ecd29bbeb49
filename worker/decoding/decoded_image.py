"""What a host gets of a decoded image: arrays in shared memory, which it releases."""

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from worker.decoding.request import Size
from worker.slabs import Slab, SlabAllocator


class Raster:
    """An RGB image in a slab, for whom the slab is freed once, from any thread."""

    def __init__(self, allocator: SlabAllocator, size: Size, *, timeout_seconds: float) -> None:
        width, height = size
        self.shape = (height, width, 3)
        self.slab: Slab = allocator.allocate(3 * width * height, timeout_seconds=timeout_seconds)
        self._allocator = allocator
        self._lock = threading.Lock()
        self._is_released = False

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """Return (h, w, 3) uint8, without a copy; it must not be used after release()."""
        return self._allocator.pool.view(self.slab, self.shape, np.uint8)

    def release(self) -> None:
        """Free the slab, unless it has been freed."""
        with self._lock:
            is_released, self._is_released = self._is_released, True
        if not is_released:
            self._allocator.free(self.slab)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """The outputs that were requested of one image.  As a context manager it releases them.

    width, height: of the whole upright image in pixels, also if it was decoded at a fraction of its size.
    orientation: of the file, by its EXIF, 1 to 8; it was turned upright by it.
    model_input: as ImageRequest.resize says.
    image: as ImageRequest.image_side says; None if it was not requested.
    """

    width: int
    height: int
    orientation: int
    model_input: Raster
    image: Raster | None = None

    def release(self) -> None:
        """Free the slabs that have not been freed."""
        for raster in (self.model_input, self.image):
            if raster is not None:
                raster.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def allocate_outputs(allocator: SlabAllocator, sizes: tuple[Size, ...], *, timeout_seconds: float) -> list[Raster]:
    """Allocate a raster for each size, or none.

    Raises:
        ImageTooLarge: one is larger than the pool.
        SharedMemoryFull: there was no room in time.
    """
    with ExitStack() as stack:
        rasters = []
        for size in sizes:
            rasters.append(Raster(allocator, size, timeout_seconds=timeout_seconds))
            stack.callback(rasters[-1].release)
        stack.pop_all()
    return rasters
