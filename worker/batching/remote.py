"""Batches for a host process: images, label maps and kept logits cross to the engine process through shared memory.

No torch here.  worker/batching/service.py is the other side.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import structlog

from shared.errors import EngineFailed, EngineLost, ModelNotReady, build_error
from shared.jobs.model import JobState, Priority
from worker.batching import kept_memory
from worker.batching.channel import SILENCE_TIMEOUT_SECONDS, Channel, ChannelClosed
from worker.batching.messages import (
    Alive,
    Announce,
    Cancel,
    Failed,
    JobCompleted,
    JobDropped,
    Message,
    ModelLoaded,
    ReadinessChanged,
    Segmented,
    Submit,
)
from worker.batching.scheduler import Ticket
from worker.segmenter import ModelImage, Segmentation
from worker.slabs import Slab, SlabAllocator

log = structlog.get_logger()

# The widest label map that an engine writes.
LABEL_MAP_BYTES_PER_PIXEL = 2
_ALIGNMENT = 64
# Between pixels and label map.
_MARK_BYTES = 1


class RemoteTicket(Ticket):
    """A ticket whose image is in the engine process; canceling it tells the engine."""

    def __init__(self, cancel_remotely: Callable[[], None]) -> None:
        super().__init__()
        self._cancel_remotely = cancel_remotely

    def cancel(self) -> bool:
        is_canceled = super().cancel()
        if is_canceled:
            self._cancel_remotely()
        return is_canceled


@dataclass(frozen=True, slots=True)
class _Pending:
    """An image that the engine has not replied about.  Its slab is the engine's until then, canceled or not."""

    ticket: RemoteTicket
    slab: Slab
    request: Submit


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Bytes of the parts of an image's slab, in their order."""

    pixels: int
    label_map: int
    kept: int

    @classmethod
    def measure(cls, image: ModelImage) -> Self:
        return cls(
            round_up(image.pixels.nbytes + _MARK_BYTES),
            round_up(LABEL_MAP_BYTES_PER_PIXEL * image.height * image.width),
            image.keep.max_bytes if image.keep else 0,
        )

    @property
    def total(self) -> int:
        return self.pixels + self.label_map + self.kept


class RemoteBatches:
    """Implements worker.batching.local.Batches over a channel to the engine process.

    Args:
        slabs: allocates the memory in which pixels and label maps cross.
        allocation_timeout_seconds: how long a submission waits for free memory.
        silence_timeout_seconds: an engine that is silent for longer is hung.
        on_lost: called when the engine has ended, is hung, or takes no more images, before the tickets fail.
    """

    def __init__(
        self,
        channel: Channel,
        slabs: SlabAllocator,
        *,
        allocation_timeout_seconds: float,
        silence_timeout_seconds: float = SILENCE_TIMEOUT_SECONDS,
        on_lost: Callable[[], object] = lambda: None,
    ) -> None:
        self._channel = channel
        self._silence_timeout_seconds = silence_timeout_seconds
        self._slabs = slabs
        self._allocation_timeout_seconds = allocation_timeout_seconds
        self._on_lost = on_lost
        self._ids = itertools.count(1)
        self._lock = threading.Lock()  # guards the next three
        self._pending: dict[int, _Pending] = {}
        self._is_closed = False
        self._submitted_count = 0

    @property
    def submitted_count(self) -> int:
        """The number of images submitted so far."""
        return self._submitted_count

    @contextmanager
    def announce(self) -> Iterator[None]:
        self._send(Announce(+1))
        try:
            yield
        finally:
            self._send(Announce(-1))

    def submit(
        self, image: ModelImage, *, priority: Priority, deadline: float | None, is_alone: bool = False
    ) -> Ticket:
        """Copy the pixels to shared memory and queue the image.

        Raises:
            SharedMemoryFull: no memory was free in time.
            ImageTooLarge: the image never fits.
        """
        sizes = _Sizes.measure(image)
        slab = self._slabs.allocate(sizes.total, timeout_seconds=self._allocation_timeout_seconds)
        request = Submit(
            id=next(self._ids),
            offset=slab.offset,
            rows=image.pixels.shape[0],
            columns=image.pixels.shape[1],
            mark_offset=slab.offset + sizes.pixels - _MARK_BYTES,
            label_map_offset=slab.offset + sizes.pixels,
            height=image.height,
            width=image.width,
            parameters=image.parameters,
            priority=priority,
            deadline=deadline,
            is_alone=is_alone,
            keep=image.keep,
            kept_offset=slab.offset + sizes.pixels + sizes.label_map,
        )
        self._slabs.pool.view(slab, image.pixels.shape, np.uint8)[:] = image.pixels
        self._slabs.pool.write(Slab(request.mark_offset, _MARK_BYTES), bytes(_MARK_BYTES))
        pending = _Pending(RemoteTicket(lambda: self._send(Cancel(request.id))), slab, request)
        self._send_pending(pending)
        return pending.ticket

    def _send_pending(self, pending: _Pending) -> None:
        with self._lock:
            is_open = not self._is_closed
            self._submitted_count += 1
            if is_open:
                self._pending[pending.request.id] = pending
        if is_open:
            self._send(pending.request)
        else:
            self._fail_as_lost(pending)

    def receive(self) -> None:
        """Complete tickets for as long as the engine process lives; then fail the others.

        They fail with EngineLost if it worked on their images when it ended, and with ModelNotReady if they waited.

        Raises:
            ChannelClosed: the engine has ended.
            TimeoutError: it is hung.
        """
        try:
            while True:
                self._handle(self._channel.receive(timeout_seconds=self._silence_timeout_seconds))
        finally:
            self._on_lost()
            with self._lock:
                self._is_closed = True
                lost, self._pending = list(self._pending.values()), {}
            for pending in lost:
                self._fail_as_lost(pending)

    def _handle(self, message: Message) -> None:
        match message:
            case Segmented():
                self._complete(self._take(message.id), message)
            case Failed():
                error = build_error(message.code, message.message)
                if isinstance(error, ModelNotReady):
                    # Its device is lost, or it ends.
                    self._on_lost()
                self._fail(self._take(message.id), error)
            case Alive():
                pass
            case _:
                log.error("message_unexpected", kind=message.kind)

    def _take(self, request_id: int) -> _Pending:
        with self._lock:
            return self._pending.pop(request_id)

    def _complete(self, pending: _Pending, reply: Segmented) -> None:
        """Copy the label map and the kept logits out of shared memory, free it and complete the ticket."""
        request = pending.request
        offset = request.label_map_offset - pending.slab.offset
        label_map = np.empty((request.height, request.width), np.uint16 if reply.is_wide else np.uint8)
        part = Slab(request.label_map_offset, pending.slab.nbytes - offset)
        label_map[:] = self._slabs.pool.view(part, label_map.shape, label_map.dtype)
        kept = kept_memory.read(self._slabs.pool, request, reply.kept) if reply.kept else None
        # Far less than was reserved: most logits are not kept.
        kept_bytes = kept.nbytes if kept else 0
        self._slabs.free(pending.slab, written_bytes=offset + label_map.nbytes + kept_bytes)
        ticket = pending.ticket
        ticket.wait_ms, ticket.device_ms, ticket.batch_size = reply.wait_ms, reply.device_ms, reply.batch_size
        if ticket.set_running_or_notify_cancel():
            ticket.set_result(Segmentation(label_map, reply.segments, kept))

    def _fail_as_lost(self, pending: _Pending) -> None:
        mark = self._slabs.pool.read(Slab(pending.request.mark_offset, _MARK_BYTES), _MARK_BYTES)
        kind = EngineLost if any(mark) else ModelNotReady
        self._fail(pending, kind("The process that runs the model has ended or hangs; try again."))

    def _fail(self, pending: _Pending, error: Exception) -> None:
        self._slabs.free(pending.slab)
        if pending.ticket.set_running_or_notify_cancel():
            pending.ticket.set_exception(error)

    def _send(self, message: Message) -> None:
        # receive() fails the tickets when the engine has ended.
        with suppress(ChannelClosed):
            self._channel.send(message)


class JobObserver(Protocol):
    """Receives the outcome of each attempt; implemented by worker/runtime/metrics.py, and below for a host."""

    def job_completed(self, priority: Priority, state: JobState, code: str, timings_ms: dict[str, float]) -> None:
        """An attempt completed its job."""

    def job_dropped(self, reason: str) -> None:
        """An attempt had no effect."""


class RemoteObserver:
    """Sends what happens to jobs to the engine process, which has the worker's metrics and its heartbeat."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def job_completed(self, priority: Priority, state: JobState, code: str, timings_ms: dict[str, float]) -> None:
        self._send(JobCompleted(priority, state, code, timings_ms))

    def job_dropped(self, reason: str) -> None:
        self._send(JobDropped(reason))

    def report_ready(self, is_ready: bool) -> None:
        self._send(ReadinessChanged(is_ready))

    def report_alive(self) -> None:
        self._send(Alive())

    def _send(self, message: Message) -> None:
        with suppress(ChannelClosed):
            self._channel.send(message)


def round_up(nbytes: int) -> int:
    """Return a multiple of the alignment of arrays in a slab."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def wait_for_model(channel: Channel) -> ModelLoaded:
    """Return the model of the engine, as soon as it is loaded.

    Raises:
        ChannelClosed: the engine process has ended.
        EngineFailed: it sent something else.
    """
    message = channel.receive()
    if not isinstance(message, ModelLoaded):
        raise EngineFailed(f"The engine sent {message.kind} before its model")
    return message
