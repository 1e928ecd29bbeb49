"""Decoding of images in child processes, as the threads of a host use it.

Each image is decoded by a process that has no other image.  One that dies or exceeds a limit is replaced, and only its
own image fails.  How many run at a time follows from a budget of memory, not from the number of threads.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog

from shared.errors import DecoderLost, ImageTooCostly, NotAnImage, build_error
from worker.decoding.admission import MemoryBudget
from worker.decoding.decoded_image import DecodedImage, Raster, allocate_outputs
from worker.decoding.processes import DecoderProcess, TemplateProcess, describe_status
from worker.decoding.request import ImageRequest, Plan
from worker.decoding.watch import DecodeWatch
from worker.slabs import SlabAllocator

log = structlog.get_logger()
_MAX_ATTEMPTS = 3
_WORN_BYTES = 64_000_000  # a decoder that has taken more memory is not used again, so that the system has it back
# Beyond the estimate, for what malloc() cannot use.
_SPARE_BYTES = 32_000_000
_SPARE_SHARE = 4
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Limits for one image, and for all images that a host decodes at a time.

    max_bytes: of memory, for all together.
    max_seconds: of CPU time for one image, in addition to those for each of its megapixels.
    max_seconds_per_megapixel: the slowest ordinary files take a fifth on a core of 2023.
    wait_seconds: how long an image may wait for memory.
    """

    max_bytes: int = 1_600_000_000
    max_seconds: float = 5.0
    max_seconds_per_megapixel: float = 0.25
    wait_seconds: float = 120.0

    def cpu_seconds(self, pixels: int) -> float:
        return self.max_seconds + self.max_seconds_per_megapixel * pixels / 1e6


class _DecoderEnded(Exception):
    """A decoder has ended without an answer; `signal` says by which, if it is known."""

    def __init__(self, number: int | None) -> None:
        super().__init__(number)
        self.signal = number


class Decoders:
    """Decodes images for many threads; the outputs are slabs of the allocator's pool."""

    def __init__(self, allocator: SlabAllocator, limits: DecodeLimits) -> None:
        self._allocator = allocator
        self._limits = limits
        self._budget = MemoryBudget(limits.max_bytes)
        self._template = TemplateProcess(allocator.pool)
        self._lock = threading.Lock()
        self._idle: list[DecoderProcess] = []  # the last one used is used next, so that the others end by themselves

    @property
    def template_pid(self) -> int | None:
        return self._template.pid

    @property
    def used_bytes(self) -> int:
        """What the decodes that run now may take."""
        return self._budget.used_bytes

    def start(self) -> None:
        """Start the template; the first decode waits for it."""
        self._template.start()

    def stop(self) -> None:
        """End all child processes; decodes that run fail with DecodersBusy."""
        self._template.stop()
        with self._lock:
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.close()

    def decode(
        self,
        data: bytes,
        request: ImageRequest,
        *,
        on_slow: Callable[[], object] = lambda: None,
        check: Callable[[], object] = lambda: None,
    ) -> DecodedImage:
        """Decode an image and return what was requested of it; the caller releases it.

        Args:
            data: a file of one of the formats in shared/images/formats.py.
            on_slow: called at most once, from this thread: the image is large and may wait for others, or its decoding
                has taken longer than a third of a second. What it raises ends the decoding, and is raised here.
            check: called from this thread about three times a second while a decoder works, and before its work
                begins; what it raises ends the decoding too.

        Raises:
            NotAnImage, TruncatedImage: the file is damaged.
            ImageTooLarge: it has too many pixels, or takes more memory than one image may.
            ImageTooCostly: it takes more CPU time than one image may.
            DecodersBusy, SharedMemoryFull: memory was not free in time, or stop() was called.
            DecoderLost: the system ended each process that decoded it, or gave it no CPU time.
        """
        watch = DecodeWatch(on_slow, check)
        for _ in range(_MAX_ATTEMPTS - 1):
            with suppress(_DecoderEnded):
                return self._attempt(data, request, watch)
        try:
            return self._attempt(data, request, watch)
        except _DecoderEnded as error:
            if error.signal in _CRASHES:
                raise NotAnImage("The image is damaged: its decoder crashed") from error
            raise DecoderLost("The processes that decoded the image were ended by the system") from error

    def _attempt(self, data: bytes, request: ImageRequest, watch: DecodeWatch) -> DecodedImage:
        limits = self._limits
        with self._lend() as decoder:
            question = {"request": request.encode(), "cpu_seconds": limits.max_seconds}
            plan = Plan.decode(self._ask(decoder, question, data, watch), request)
            decoder.is_worn |= plan.memory_bytes > _WORN_BYTES
            if not self._budget.is_small(plan.memory_bytes):
                watch.report()
            with self._budget.admit(plan.memory_bytes, timeout_seconds=limits.wait_seconds):
                watch.check()
                rasters = allocate_outputs(self._allocator, plan.outputs, timeout_seconds=limits.wait_seconds)
                return self._fill(decoder, plan, rasters, watch)

    def _fill(self, decoder: DecoderProcess, plan: Plan, rasters: list[Raster], watch: DecodeWatch) -> DecodedImage:
        """Let the decoder write the outputs; they are released if it fails."""
        width, height = plan.size
        image = DecodedImage(width, height, plan.orientation, *rasters)
        question = {
            "slabs": [(raster.slab.offset, raster.slab.nbytes) for raster in rasters],
            "max_bytes": plan.memory_bytes + plan.memory_bytes // _SPARE_SHARE + _SPARE_BYTES,
            "cpu_seconds": self._limits.cpu_seconds(width * height),
        }
        try:
            self._ask(decoder, question, b"", watch)
        except BaseException:
            image.release()
            raise
        return image

    @contextmanager
    def _lend(self) -> Iterator[DecoderProcess]:
        """Lend a decoder that no other thread uses; it is used again unless it is worn or has not answered."""
        decoder = self._take_idle() or self._template.fork()
        try:
            yield decoder
        finally:
            self._return(decoder)

    def _take_idle(self) -> DecoderProcess | None:
        with self._lock:
            while self._idle:
                decoder = self._idle.pop()
                if not decoder.has_ended:
                    return decoder
                decoder.close()
        return None

    def _return(self, decoder: DecoderProcess) -> None:
        if decoder.is_worn or decoder.is_busy:
            decoder.close()
            return
        with self._lock:
            self._idle.append(decoder)
            if self._idle[0].has_ended:
                self._idle.pop(0).close()

    def _ask(
        self, decoder: DecoderProcess, question: dict[str, Any], data: bytes, watch: DecodeWatch
    ) -> dict[str, Any]:
        """Send a question and return the answer.

        Raises:
            ImageTooCostly: the decoder was killed because it used up its CPU time.
            DecoderLost: it got too little CPU time to answer.
            _DecoderEnded: it has ended for any other reason.
            MaskmillError: the error that it answered.
        """
        answer = None
        try:
            decoder.send(question, data)
            watch.wait(decoder, cpu_seconds=question["cpu_seconds"])
            answer = decoder.receive()
        except OSError:
            pass  # it has ended
        except BaseException:
            self._template.find_status(decoder.pid)  # killed, because its slabs are freed now
            raise
        if answer is None:
            raise self._explain_end(decoder, question["cpu_seconds"])
        if "code" in answer:
            raise build_error(answer["code"], answer["error"])
        return answer

    def _explain_end(self, decoder: DecoderProcess, cpu_seconds: float) -> Exception:
        status = self._template.find_status(decoder.pid)
        number = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None
        log.warning("decoder_ended", pid=decoder.pid, status=describe_status(status))
        if number == signal.SIGPROF:
            return ImageTooCostly(f"Decoding the image took more than {cpu_seconds:.3g} seconds of CPU time")
        return _DecoderEnded(number)
