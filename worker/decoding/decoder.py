"""The decoder: a child process that decodes one image at a time within limits of memory and CPU time.

It gets a file and answers with a plan; it gets places for the outputs and answers when they are written.  An image is
dropped when the next one comes.  If CPU time runs out the process is killed by SIGPROF; if memory runs out it reports
that.  It ends when the host closes the connection, or after a time without images.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from shared.errors import ImageTooLarge, MaskmillError, NotAnImage
from shared.images.formats import detect_image_format
from shared.images.opening import open_image, read_orientation, upright_size
from worker.decoding.estimate import estimate_bytes
from worker.decoding.limits import limit_cpu, limit_memory, unlimit_cpu, unlimit_memory
from worker.decoding.messages import Reader, send
from worker.decoding.pixels import load_upright_rgb
from worker.decoding.request import ImageRequest, Plan, Size, output_sizes
from worker.slabs import Slab, SlabPool

_MAX_BAND_BYTES = 1 << 22  # of a large output, copied at a time
# For the header of a file: what Python's objects may take beside the file.
_HEADER_BYTES = 64_000_000
_HEADER_BYTES_PER_BYTE = 8


@dataclass(slots=True)
class _Job:
    """An image whose header has been parsed."""

    image: ImageFile
    request: ImageRequest
    plan: Plan


class Decoder:
    """Answers the messages of a host; keeps one image between a plan and its start."""

    def __init__(self, pool: SlabPool, baseline_bytes: int) -> None:
        self._pool = pool
        self._baseline_bytes = baseline_bytes
        self._job: _Job | None = None

    @property
    def has_plan(self) -> bool:
        """Whether an image waits for its start."""
        return self._job is not None

    def answer(self, message: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Return the plan for a file, or an empty object when the outputs of the last plan are written."""
        limit_cpu(message["cpu_seconds"])
        try:
            if "request" in message:
                self._job = None
                self._job = self._plan_any(data, ImageRequest.decode(message["request"]))
                return self._job.plan.encode()
            self._decode([Slab(offset, nbytes) for offset, nbytes in message["slabs"]], message["max_bytes"])
            return {}
        except MaskmillError as error:
            return {"code": error.code, "error": str(error)}
        except MemoryError:
            return _report_memory(message.get("max_bytes", 0))
        finally:
            unlimit_cpu()
            unlimit_memory()  # the next file comes into memory before its limits are known

    def _plan_any(self, data: bytes, request: ImageRequest) -> _Job:
        """Parse the header of a file, which may be damaged in any way.

        Raises:
            NotAnImage: it is.  An exception of another type would end this process, and the image be sent to others.
        """
        try:
            return self._plan(data, request)
        except (MaskmillError, MemoryError):
            raise
        except Exception as error:
            raise NotAnImage("The image is damaged: its header cannot be read") from error

    def _plan(self, data: bytes, request: ImageRequest) -> _Job:
        """Parse the header of a file."""
        if detect_image_format(data) == "webp":
            unlimit_memory()  # libwebp reserves its canvases here, but uses them only when it decodes
        else:
            limit_memory(self._baseline_bytes + _HEADER_BYTES + _HEADER_BYTES_PER_BYTE * len(data))
        image = open_image(data, max_pixels=request.max_pixels, max_side=request.max_side)
        file_size, size = image.size, upright_size(image)
        outputs = output_sizes(request, size)
        if request.is_scaled and request.resize is not None:
            _scale(image, request.resize[0], outputs[1:])
        memory_bytes = estimate_bytes(image, data, size=file_size, outputs=outputs)
        return _Job(image, request, Plan(size, outputs, memory_bytes, read_orientation(image)))

    def _decode(self, slabs: Sequence[Slab], max_bytes: int) -> None:
        """Decode the planned image and write its outputs."""
        job, self._job = self._job, None
        if job is None:
            raise RuntimeError("A start without a plan")
        limit_memory(self._baseline_bytes + max_bytes)
        image, request, outputs = job.image, job.request, job.plan.outputs
        del job  # it holds the file
        views = [
            self._pool.view(slab, (height, width, 3), np.uint8)
            for slab, (width, height) in zip(slabs, outputs, strict=True)
        ]
        pixels = load_upright_rgb(image)
        write_resized(pixels, views[0], Resampling.NEAREST if request.resize is None else request.resize[1])
        for view in views[1:]:
            write_resized(pixels, view, Resampling.BOX)


def serve(connection: socket.socket, decoder: Decoder, *, idle_seconds: float) -> None:
    """Answer messages until the host closes the connection, or has no image for some time."""
    reader = Reader(connection)
    try:
        connection.settimeout(idle_seconds)
        while (received := reader.receive()) is not None:
            answer = decoder.answer(*received)
            del received
            send(connection, answer)
            connection.settimeout(None if decoder.has_plan else idle_seconds)
    except OSError:  # the timeout, or the host has gone
        return


def write_resized(image: Image, target: NDArray[np.uint8], resample: Resampling) -> None:
    """Write an RGB image, resized unless it has that size, to (h, w, 3)."""
    height, width = target.shape[:2]
    resized = image if image.size == (width, height) else image.resize((width, height), resample)
    rows = max(1, _MAX_BAND_BYTES // (3 * width))
    if rows >= height:
        target[:] = np.asarray(resized)
        return
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        target[top:bottom] = np.asarray(resized.crop((0, top, width, bottom)))


def _scale(image: ImageFile, model_input: Size, others: Sequence[Size]) -> None:
    """Set a JPEG to the smallest fraction that has twice the model's input and every other output."""
    needed = [(2 * model_input[0], 2 * model_input[1]), *others]
    width, height = max(w for w, _ in needed), max(h for _, h in needed)
    is_turned = upright_size(image) != image.size
    if isinstance(image, JpegImageFile):
        image.draft(None, (height, width) if is_turned else (width, height))


def _report_memory(max_bytes: int) -> dict[str, Any]:
    error = ImageTooLarge(f"Decoding the image took more than {max_bytes // 1_000_000} megabytes of memory")
    return {"code": error.code, "error": str(error)}
