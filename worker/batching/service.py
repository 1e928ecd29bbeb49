"""The engine's side of one host process: images that arrive over a channel are queued, and their results sent back.

worker/batching/remote.py is the other side.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from operator import setitem
from typing import cast

import numpy as np
import structlog

from shared.errors import Canceled, EngineFailed, MaskmillError
from worker.batching import kept_memory
from worker.batching.channel import ALIVE_INTERVAL_SECONDS, SILENCE_TIMEOUT_SECONDS, Channel, ChannelClosed
from worker.batching.local import LocalBatches
from worker.batching.messages import Alive, Announce, Cancel, Failed, Message, ModelLoaded, Segmented, Submit
from worker.batching.scheduler import Ticket
from worker.segmenter import LabelMap, ModelImage, Segmentation
from worker.slabs import Slab, SlabPool

log = structlog.get_logger()


Outcome = tuple[Submit, Ticket]


class HostConnection:
    """Serves one host process until it ends.

    Args:
        pool: the shared memory of this host.
        batches: where its images are queued.
        preparing: runs the submissions of a model that prepares images itself, which takes long; otherwise they run on
            the thread that receives.
        handle: called with every message that is not about an image.
        timeout_seconds: a host that is silent for longer is hung.
    """

    def __init__(
        self,
        channel: Channel,
        pool: SlabPool,
        batches: LocalBatches,
        *,
        preparing: Executor | None,
        handle: Callable[[Message], None],
        timeout_seconds: float = SILENCE_TIMEOUT_SECONDS,
    ) -> None:
        self._channel = channel
        self._pool = pool
        self._batches = batches
        self._preparing = preparing
        self._handle = handle
        self._timeout_seconds = timeout_seconds
        self._announced: list[AbstractContextManager[None]] = []
        self._tickets: dict[int, Ticket] = {}
        self._done: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()

    def serve(self, model: ModelLoaded) -> None:
        """Tell the host of the loaded model, receive until it ends, then cancel its images.

        Raises:
            TimeoutError: the host is hung.
        """
        with ExitStack() as stack, suppress(ChannelClosed):
            stack.callback(self._channel.close)
            self._channel.send(model)
            # Replies are sent on a thread of their own: neither this one nor the device's may wait for a host that does
            # not receive.
            replying = threading.Thread(target=self._reply, name="host-replies", daemon=True)
            replying.start()
            stack.callback(replying.join)
            stack.callback(self._done.put, None)
            stack.callback(self._withdraw)
            # First: a reply to a host that does not receive would block.
            stack.callback(self._channel.shut_down)
            while True:
                self._receive()

    def _receive(self) -> None:
        match self._channel.receive(timeout_seconds=self._timeout_seconds):
            case Submit() as request:
                if self._preparing:
                    self._preparing.submit(self._submit, request)
                else:
                    self._submit(request)
            case Cancel(id=request_id):
                if ticket := self._tickets.get(request_id):
                    ticket.cancel()
            case Announce(count=count):
                self._announce(count)
            case message:
                self._handle(message)

    def _submit(self, request: Submit) -> None:
        """Queue an image; there will be one outcome, also if it cannot be queued."""
        # The views keep the memory when the host has ended, while the image is on the device.
        mark = self._pool.view(self._part(request.mark_offset), (1,), np.uint8)
        set_mark = partial(setitem, mark, 0)
        try:
            ticket = self._batches.submit(
                self._build_image(request),
                priority=request.priority,
                deadline=request.deadline,
                is_alone=request.is_alone,
                on_work=set_mark,
            )
        except Exception:
            log.exception("image_not_queued")
            ticket = Ticket()
            ticket.set_exception(EngineFailed("The model could not prepare this image"))
        self._tickets[request.id] = ticket
        # The callback does not hold the ticket: a cycle would keep its label map until garbage is collected.
        ticket.add_done_callback(partial(self._enqueue_reply, request, set_mark))

    def _enqueue_reply(self, request: Submit, set_mark: Callable[[bool], object], done: Future[Segmentation]) -> None:
        set_mark(False)
        self._done.put((request, cast(Ticket, done)))

    def _build_image(self, request: Submit) -> ModelImage:
        shape = request.rows, request.columns, 3
        pixels = self._pool.view(self._part(request.offset), shape, np.uint8)
        return ModelImage(pixels, request.height, request.width, request.parameters, request.keep)

    def _announce(self, count: int) -> None:
        if count > 0:
            announcement = self._batches.announce()
            announcement.__enter__()
            self._announced.append(announcement)
        elif self._announced:
            self._announced.pop().__exit__(None, None, None)

    def _withdraw(self) -> None:
        """Forget what a host that has ended announced and submitted; what is on the device runs on."""
        while self._announced:
            self._announce(-1)
        for ticket in list(self._tickets.values()):
            ticket.cancel()

    def _reply(self) -> None:
        """Send replies, and in their absence that this process is neither hung nor stopped."""
        with suppress(ChannelClosed):
            while True:
                try:
                    outcome = self._done.get(timeout=ALIVE_INTERVAL_SECONDS)
                except queue.Empty:
                    self._channel.send(Alive())
                    continue
                if outcome is None:
                    return
                self._tickets.pop(outcome[0].id, None)
                self._channel.send(self._build_any_reply(*outcome))
                del outcome  # it holds a label map

    def _build_any_reply(self, request: Submit, ticket: Ticket) -> Segmented | Failed:
        """Return a reply, also if the result cannot be sent: without one the host would wait for ever."""
        try:
            return self._build_reply(request, ticket)
        except Exception:
            log.exception("result_not_sent")
            return Failed(request.id, EngineFailed.code, "The result of the model could not be sent")

    def _build_reply(self, request: Submit, ticket: Ticket) -> Segmented | Failed:
        if ticket.cancelled():
            return Failed(request.id, Canceled.code, "The job was canceled")
        error = ticket.exception()
        if error is not None:
            code = error.code if isinstance(error, MaskmillError) else EngineFailed.code
            return Failed(request.id, code, str(error))
        result = ticket.result()
        self._write_label_map(request, result.label_map)
        is_wide = result.label_map.dtype == np.uint16
        kept = kept_memory.write(self._pool, request, result.kept) if result.kept else None
        return Segmented(
            request.id, result.segments, is_wide, ticket.wait_ms, ticket.device_ms, ticket.batch_size, kept
        )

    def _write_label_map(self, request: Submit, label_map: LabelMap) -> None:
        shape = request.height, request.width
        self._pool.view(self._part(request.label_map_offset), shape, label_map.dtype)[:] = label_map

    def _part(self, offset: int) -> Slab:
        """Return the rest of the pool from an offset, so that a view may not exceed the pool."""
        return Slab(offset, self._pool.size_bytes - offset)
