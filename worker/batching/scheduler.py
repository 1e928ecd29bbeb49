"""The one thread that owns the device: it takes what waits, batch by batch, and settles each image on its own.

Knows neither jobs nor Celery.  Which images make a batch is plan_execution in worker/batching/policy.py.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from shared.errors import Canceled, DeadlineExceeded, EngineFailed, MaskmillError, ModelNotReady
from shared.jobs.model import Priority
from worker.batching.policy import Decision, Limits, Reason, decide
from worker.segmenter import Prepared, Segmentation, Segmenter

log = structlog.get_logger()

# A device that is lost (a sticky CUDA error) fails every batch, and fast: such a worker would eat the whole queue.
_LOSSES_IN_A_ROW = 3


class Ticket(Future[Segmentation]):
    """The promise of one segmentation; canceling it gives up the place in the queue.

    wait_ms, device_ms: how long the image waited, and how long its whole batch took; there once the ticket is done.
    """

    wait_ms: float = 0.0
    device_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What is known of a batch once it is over.  wait_ms: of each image, from submit() to the device."""

    size: int
    failed: int
    pixels: int
    reason: Reason
    wait_ms: tuple[float, ...]
    device_ms: float


class BatchObserver(Protocol):
    """Where metrics are attached.  Called from the engine's thread: be quick, and do not raise."""

    def batch_done(self, report: BatchReport) -> None:
        """A batch is over, and its tickets are about to be settled."""

    def images_dropped(self, *, canceled: int, late: int) -> None:
        """Images left the queue without any device time."""


class NullObserver:
    """Observes nothing."""

    def batch_done(self, report: BatchReport) -> None:
        pass

    def images_dropped(self, *, canceled: int, late: int) -> None:
        pass


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """One submitted image, as the batching policy sees it."""

    prepared: Prepared
    priority: Priority
    deadline: float | None
    enqueued_at: float
    still_wanted: Callable[[], bool]
    ticket: Ticket = field(default_factory=Ticket)

    @property
    def pixels(self) -> int:
        return self.prepared.height * self.prepared.width

    def is_wanted(self) -> bool:
        if self.ticket.cancelled():
            return False
        try:
            return self.still_wanted()
        except Exception:
            # Who cannot be asked is served: a fault over there must not stop the engine's only thread.
            log.exception("caller_broke")
            return True


class BatchScheduler:
    """Serves one Segmenter from one thread of its own.

    Args:
        segmenter: used by that thread alone, warm_up() included.
        limits: how batches are formed.
        batch_timeout_seconds: a batch that runs longer makes `is_stuck` true.
        clock: seconds; also the clock that deadlines are given by.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        limits: Limits,
        *,
        batch_timeout_seconds: float,
        observer: BatchObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._segmenter = segmenter
        self._limits = limits
        self._stuck_after_seconds = batch_timeout_seconds
        self._observer: BatchObserver = observer or NullObserver()
        self._clock = clock
        self._thread = threading.Thread(target=self._live, name="engine", daemon=True)
        self._warm: Future[None] = Future()
        self._changed = threading.Condition()  # guards the next three
        self._waiting: list[_Item] = []
        self._coming = 0
        self._is_draining = False
        self._free_since = clock()
        self._batch_started_at: float | None = None
        self._losses_in_a_row = 0

    def start(self) -> Future[None]:
        """Start the thread; the future is done when the model is warm, or holds what broke its warm-up."""
        self._thread.start()
        return self._warm

    def stop(self, *, drain: bool = True, timeout_seconds: float | None = None) -> bool:
        """Take no more images and end the thread; return whether it has ended.

        Args:
            drain: segment what waits; otherwise its tickets fail with ModelNotReady, so that others may take the jobs.
            timeout_seconds: how long to wait for the end; a batch on the device cannot be interrupted.
        """
        with self._changed:
            self._is_draining = True
            abandoned = [] if drain else self._take_all()
            self._changed.notify_all()
        _fail(abandoned, ModelNotReady, "The worker is stopping")
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Say, for as long as the block runs, that an image is on its way; worth a short wait to a device that is idle.

        The image is submitted within the block, or not at all.
        """
        self._expect(+1)
        try:
            yield
        finally:
            self._expect(-1)

    def submit(
        self,
        prepared: Prepared,
        *,
        priority: Priority,
        deadline: float | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Ticket:
        """Queue an image for the device.  Callable from any thread.

        The ticket fails with Canceled, DeadlineExceeded, OutOfMemory, EngineFailed, or, when the worker is stopping,
        ModelNotReady.

        Args:
            deadline: seconds by the engine's clock; an image that is still waiting then gets no device time.
            is_wanted: asked before the image goes to the device; it must be quick, and answer from memory.
        """
        item = _Item(prepared, priority, deadline, self._clock(), is_wanted)
        with self._changed:
            is_accepted = not self._is_draining
            if is_accepted:
                self._waiting.append(item)
                self._changed.notify_all()
        if not is_accepted:
            _fail([item], ModelNotReady, "The worker is stopping")
        return item.ticket

    @property
    def waiting_count(self) -> int:
        """Images that wait for the device; those on it are not counted."""
        return len(self._waiting)

    @property
    def is_stuck(self) -> bool:
        """Whether the batch on the device has been there for too long."""
        started_at = self._batch_started_at
        return started_at is not None and self._clock() - started_at > self._stuck_after_seconds

    @property
    def is_healthy(self) -> bool:
        """Whether images may be expected to come out; once false the process should end, for others to take over."""
        return self._thread.is_alive() and not self.is_stuck and self._losses_in_a_row < _LOSSES_IN_A_ROW

    def _live(self) -> None:
        try:
            self._segmenter.warm_up()
            self._free_since = self._clock()
            self._warm.set_result(None)
            while self._turn():
                pass
        except BaseException as error:
            log.exception("engine_died")
            if not self._warm.done():
                self._warm.set_exception(error)
        finally:
            with self._changed:
                self._is_draining = True
                abandoned = self._take_all()
            _fail(abandoned, EngineFailed, "The engine has ended")

    def _turn(self) -> bool:
        """Serve one batch, if there is one; return whether there is more to come."""
        decision = self._next_decision()
        if decision is None:
            return False
        if decision.canceled or decision.late:
            self._observer.images_dropped(canceled=len(decision.canceled), late=len(decision.late))
        _fail(decision.canceled, Canceled, "The job was canceled")
        _fail(decision.late, DeadlineExceeded, "There was no room on the device before the deadline")
        # From here on a ticket cannot be canceled any more.
        batch = [item for item in decision.taken if item.ticket.set_running_or_notify_cancel()]
        if batch and decision.reason is not None:
            self._serve(batch, decision.reason)
        return True

    def _next_decision(self) -> Decision[_Item] | None:
        """Wait until images are to be taken or dropped; None when the last one is served and no more will come."""
        with self._changed:
            while True:
                decision = self._decide()
                self._waiting = list(decision.kept)
                if decision.taken or decision.canceled or decision.late:
                    return decision
                if self._is_draining:
                    return None
                until = decision.wait_until
                self._changed.wait(None if until is None else max(0.0, until - self._clock()))

    def _decide(self) -> Decision[_Item]:
        return decide(
            self._waiting,
            now=self._clock(),
            free_since=self._free_since,
            limits=self._limits,
            is_more_coming=self._coming > 0,
            is_draining=self._is_draining,
        )

    def _serve(self, batch: Sequence[_Item], reason: Reason) -> None:
        started_at = self._clock()
        outcomes = self._segment(batch)
        self._free_since = self._clock()
        is_total_loss = all(isinstance(outcome, EngineFailed) for outcome in outcomes)
        self._losses_in_a_row = self._losses_in_a_row + 1 if is_total_loss else 0
        device_ms = 1000 * (self._free_since - started_at)
        for item in batch:
            item.ticket.wait_ms = 1000 * (started_at - item.enqueued_at)
            item.ticket.device_ms = device_ms
        self._observer.batch_done(
            BatchReport(
                size=len(batch),
                failed=sum(isinstance(outcome, MaskmillError) for outcome in outcomes),
                pixels=sum(item.pixels for item in batch),
                reason=reason,
                wait_ms=tuple(item.ticket.wait_ms for item in batch),
                device_ms=device_ms,
            )
        )
        for item, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, MaskmillError):
                item.ticket.set_exception(outcome)
            else:
                item.ticket.set_result(outcome)

    def _segment(self, batch: Sequence[_Item]) -> list[Segmentation | MaskmillError]:
        """Return an outcome for each image, whatever the model does.

        A batch that breaks the model is tried again image by image, so that a poisonous one fails alone.
        """
        self._batch_started_at = self._clock()
        try:
            outcomes = self._segmenter.segment([item.prepared for item in batch])
            if len(outcomes) == len(batch):
                return outcomes
            log.error("batch_miscounted", size=len(batch), answered=len(outcomes))
        except Exception:
            log.exception("batch_failed", size=len(batch))
        finally:
            self._batch_started_at = None
        if len(batch) == 1:
            return [EngineFailed("The model broke on this image")]
        return [self._segment([item])[0] for item in batch]

    def _expect(self, images: int) -> None:
        with self._changed:
            self._coming += images
            self._changed.notify_all()

    def _take_all(self) -> list[_Item]:
        taken, self._waiting = self._waiting, []
        return taken


def _fail(items: Sequence[_Item], kind: type[MaskmillError], message: str) -> None:
    for item in items:
        if item.ticket.set_running_or_notify_cancel():
            item.ticket.set_exception(kind(message))
