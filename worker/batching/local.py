"""Batches for callers in the engine process: prepare an image, then queue it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from shared.errors import MaskmillError
from shared.jobs.model import Priority
from worker.batching.scheduler import BatchScheduler, Ticket
from worker.segmenter import ModelImage, Segmenter


class Batches(Protocol):
    """Queues images for the device.  Thread-safe.

    Implemented here, and in worker/batching/remote.py for another process.
    """

    def announce(self) -> AbstractContextManager[None]:
        """Announce an image that will be submitted within the block, or not at all."""

    def submit(
        self, image: ModelImage, *, priority: Priority, deadline: float | None, is_alone: bool = False
    ) -> Ticket:
        """Queue an image; the ticket raises its error.  A canceled ticket removes the image from the queue.

        Args:
            deadline: by time.monotonic(), or None.
            is_alone: whether it gets a batch of its own.
        """


@dataclass(frozen=True, slots=True)
class LocalBatches:
    """Implements Batches over the scheduler of this process."""

    segmenter: Segmenter
    scheduler: BatchScheduler

    def announce(self) -> AbstractContextManager[None]:
        return self.scheduler.announce()

    def submit(
        self,
        image: ModelImage,
        *,
        priority: Priority,
        deadline: float | None,
        is_alone: bool = False,
        on_work: Callable[[bool], object] = lambda _: None,
    ) -> Ticket:
        """Queue an image, as Batches.submit().

        Args:
            on_work: called with True before this process works on the image, so that it could be what ends it, and
                with False when the image waits again; must return fast and without I/O, and must not raise.
        """
        on_work(True)
        try:
            prepared = self.segmenter.prepare(image)
        except MaskmillError as error:
            failed = Ticket()
            failed.set_exception(error)
            return failed
        on_work(False)
        return self.scheduler.submit(
            prepared, priority=priority, deadline=deadline, is_alone=is_alone, on_start=partial(on_work, True)
        )
