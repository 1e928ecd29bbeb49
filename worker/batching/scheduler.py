"""The batch scheduler: one thread owns the device and runs queued images batch by batch; another completes the tickets.

Knows neither jobs nor Celery.  worker/batching/policy.py decides which images form a batch.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from shared.errors import Canceled, DeadlineExceeded, EngineFailed, MaskmillError, ModelNotReady
from shared.jobs.model import Priority
from worker.batching.cost import UNKNOWN_COST, BatchCost, LearnedCost
from worker.batching.policy import BatchLimits, BatchPlan, DispatchReason, plan_batch
from worker.segmenter import Prepared, Segmentation, Segmenter

log = structlog.get_logger()

# A lost device (a sticky CUDA error) fails every batch, and fast: such a worker would drain the queue into failures.
UNHEALTHY_AFTER_FAILED_BATCHES = 3


class Ticket(Future[Segmentation]):
    """The future of one segmentation; canceling it removes the image from the queue.

    wait_ms, device_ms: time in the queue, and time of the whole batch on the device; set before the ticket is done.
    batch_size: images of the batch.
    """

    wait_ms: float = 0.0
    device_ms: float = 0.0
    batch_size: int = 0


@dataclass(frozen=True, slots=True)
class BatchReport:
    """Measurements of a completed batch.

    pixels: sum over the images.  wait_ms: of each image, from submit() to the device.  device_ms: of the whole batch.
    cost: the estimate of what a batch costs, after this one.
    """

    size: int
    failed: int
    pixels: int
    reason: DispatchReason
    wait_ms: tuple[float, ...]
    device_ms: float
    cost: BatchCost = UNKNOWN_COST


class BatchObserver(Protocol):
    """The interface for metrics.  Called on the threads of the scheduler: must be fast and must not raise."""

    def batch_completed(self, report: BatchReport) -> None:
        """A batch has left the device; its tickets are completed next."""

    def images_dropped(self, *, canceled: int, expired: int) -> None:
        """Images were removed from the queue without using the device."""


class CostModel(Protocol):
    """The interface for an estimate of what a batch costs.  Called on the device thread, or in a lock: must be fast."""

    @property
    def estimate(self) -> BatchCost:
        """The current estimate."""

    def observe(self, *, images: int, pixels: int, seconds: float) -> None:
        """Learn from a batch that the device has completed."""


class NullObserver:
    """Ignores every event."""

    def batch_completed(self, report: BatchReport) -> None:
        pass

    def images_dropped(self, *, canceled: int, expired: int) -> None:
        pass


@dataclass(frozen=True, slots=True, eq=False)
class _QueuedImage:
    """One submitted image; fills worker.batching.policy.QueuedImage."""

    prepared: Prepared
    priority: Priority
    deadline: float | None
    enqueued_at: float
    is_wanted_by_caller: Callable[[], bool]
    is_alone: bool
    on_start: Callable[[], object]
    ticket: Ticket = field(default_factory=Ticket)

    @property
    def pixels(self) -> int:
        return self.prepared.height * self.prepared.width

    def is_wanted(self) -> bool:
        if self.ticket.cancelled():
            return False
        try:
            return self.is_wanted_by_caller()
        except Exception:
            # The image is served then: an error in a caller's callback must not end the only device thread.
            log.exception("is_wanted_callback_failed")
            return True


class BatchScheduler:
    """Runs one Segmenter on a thread of its own.

    Args:
        segmenter: used by that thread only, warm_up() included.
        limits: size and delay of a batch.
        batch_timeout_seconds: a batch that runs longer makes `is_hung` true.
        observer: receives measurements.
        cost: learns what a batch costs on this device with this model; by default from nothing.
        clock: returns seconds; deadlines are given by the same clock.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        limits: BatchLimits,
        *,
        batch_timeout_seconds: float,
        observer: BatchObserver | None = None,
        cost: CostModel | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._segmenter = segmenter
        self._limits = limits
        self._batch_timeout_seconds = batch_timeout_seconds
        self._observer: BatchObserver = observer or NullObserver()
        self._cost: CostModel = cost or LearnedCost()
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        # What follows a result, on the thread that completes its ticket, must not keep the device waiting.
        self._delivery = ThreadPoolExecutor(1, thread_name_prefix="delivery")
        self._delivered: Future[None] = Future()
        self._delivered.set_result(None)
        self._warmed_up: Future[None] = Future()
        self._changed = threading.Condition()  # guards the next three
        self._queue: list[_QueuedImage] = []
        self._announced = 0
        self._is_draining = False
        self._idle_since = clock()
        self._batch_started_at: float | None = None
        self._consecutive_failed_batches = 0
        self._batch_count = 0

    def start(self) -> Future[None]:
        """Start the thread; the future is done when the model is warm, or holds the error of its warm-up."""
        self._thread.start()
        return self._warmed_up

    def stop(self, *, drain: bool = True, timeout_seconds: float | None = None) -> bool:
        """Accept no more images and end the thread; return whether it has ended.

        Args:
            drain: segment the queued images; otherwise their tickets fail with ModelNotReady, so that the jobs can be
                requeued.
            timeout_seconds: how long to wait for the thread; a batch on the device cannot be interrupted.
        """
        with self._changed:
            self._is_draining = True
            rejected = [] if drain else self._clear_queue()
            self._changed.notify_all()
        _fail(rejected, ModelNotReady, "The worker is stopping")
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @contextmanager
    def announce(self) -> Iterator[None]:
        """Announce one image for as long as the block runs; an idle device then waits max_wait_seconds for it.

        The image is submitted within the block, or not at all.
        """
        self._add_announced(+1)
        try:
            yield
        finally:
            self._add_announced(-1)

    def submit(
        self,
        prepared: Prepared,
        *,
        priority: Priority,
        deadline: float | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
        is_alone: bool = False,
        on_start: Callable[[], object] = lambda: None,
    ) -> Ticket:
        """Queue an image for the device.  Thread-safe.

        The ticket fails with Canceled, DeadlineExceeded, OutOfMemory, EngineFailed, or, if the scheduler is stopping,
        ModelNotReady.

        Args:
            deadline: seconds by the scheduler's clock; an image still queued at that time is not segmented.
            is_wanted: called before the image is dispatched; must return fast and without I/O.
            is_alone: whether the image gets a batch of its own.
            on_start: called before its batch starts; must return fast and without I/O, and must not raise.
        """
        image = _QueuedImage(prepared, priority, deadline, self._clock(), is_wanted, is_alone, on_start)
        with self._changed:
            is_accepted = not self._is_draining
            if is_accepted:
                self._queue.append(image)
                self._changed.notify_all()
        if not is_accepted:
            _fail([image], ModelNotReady, "The worker is stopping")
        return image.ticket

    @property
    def queue_length(self) -> int:
        """The number of queued images, without those on the device."""
        return len(self._queue)

    @property
    def batch_count(self) -> int:
        """The number of batches that the device has completed."""
        return self._batch_count

    @property
    def is_hung(self) -> bool:
        """Whether the batch on the device has exceeded batch_timeout_seconds."""
        started_at = self._batch_started_at
        return started_at is not None and self._clock() - started_at > self._batch_timeout_seconds

    @property
    def is_healthy(self) -> bool:
        """Whether the scheduler can still produce results; once false, the process should exit to release its jobs."""
        return self._thread.is_alive() and not self.is_hung and not self._is_failing

    @property
    def _is_failing(self) -> bool:
        return self._consecutive_failed_batches >= UNHEALTHY_AFTER_FAILED_BATCHES

    def _run(self) -> None:
        try:
            self._segmenter.warm_up()
            self._idle_since = self._clock()
            self._warmed_up.set_result(None)
            # A device that fails every batch gets no further image: those that wait are for another worker.
            while not self._is_failing and (plan := self._wait_for_plan()) is not None:
                self._execute(plan)
        except BaseException as error:
            log.exception("device_thread_failed")
            if not self._warmed_up.done():
                self._warmed_up.set_exception(error)
        finally:
            with self._changed:
                self._is_draining = True
                rejected = self._clear_queue()
            self._delivery.shutdown()
            _fail(rejected, ModelNotReady, "The device thread has ended")

    def _wait_for_plan(self) -> BatchPlan[_QueuedImage] | None:
        """Wait until images can be dispatched or dropped; return None once a drained queue is empty."""
        with self._changed:
            while True:
                plan = self._plan()
                self._queue = list(plan.waiting)
                if plan.batch or plan.canceled or plan.expired:
                    return plan
                if self._is_draining:
                    return None
                until = plan.wait_until
                self._changed.wait(None if until is None else max(0.0, until - self._clock()))

    def _plan(self) -> BatchPlan[_QueuedImage]:
        return plan_batch(
            self._queue,
            now=self._clock(),
            idle_since=self._idle_since,
            limits=self._limits,
            cost=self._cost.estimate,
            is_more_announced=self._announced > 0,
            is_draining=self._is_draining,
        )

    def _execute(self, plan: BatchPlan[_QueuedImage]) -> None:
        """Drop the canceled and expired images of a plan and run its batch."""
        if plan.canceled or plan.expired:
            self._observer.images_dropped(canceled=len(plan.canceled), expired=len(plan.expired))
        _fail(plan.canceled, Canceled, "The job was canceled")
        _fail(plan.expired, DeadlineExceeded, "The device was not free before the deadline")
        # A ticket cannot be canceled after this point.
        batch = [image for image in plan.batch if image.ticket.set_running_or_notify_cancel()]
        if batch and plan.reason is not None:
            self._run_batch(batch, plan.reason)

    def _run_batch(self, batch: Sequence[_QueuedImage], reason: DispatchReason) -> None:
        for image in batch:
            image.on_start()
        started_at = self._clock()
        outcomes = self._segment_or_retry(batch)
        self._idle_since = self._clock()
        has_failed = all(isinstance(outcome, EngineFailed) for outcome in outcomes)
        self._consecutive_failed_batches = self._consecutive_failed_batches + 1 if has_failed else 0
        self._batch_count += 1
        device_ms = 1000 * (self._idle_since - started_at)
        for image in batch:
            image.ticket.wait_ms = 1000 * (started_at - image.enqueued_at)
            image.ticket.device_ms = device_ms
            image.ticket.batch_size = len(batch)
        report = _build_report(batch, outcomes, reason, device_ms, self._cost.estimate)
        # Results of at most one batch wait to be delivered, so that they cannot fill the memory.
        self._delivered.result()
        self._delivered = self._delivery.submit(self._deliver, batch, outcomes, report)

    def _deliver(
        self, batch: Sequence[_QueuedImage], outcomes: Sequence[Segmentation | MaskmillError], report: BatchReport
    ) -> None:
        self._observer.batch_completed(report)
        for image, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, MaskmillError):
                image.ticket.set_exception(outcome)
            else:
                image.ticket.set_result(outcome)

    def _segment_or_retry(self, batch: Sequence[_QueuedImage]) -> list[Segmentation | MaskmillError]:
        """Return one outcome per image; never raises an Exception of the model.

        A batch that fails as a whole is retried image by image, so that an image that causes the failure fails alone.
        """
        outcomes = self._segment(batch)
        if outcomes is not None:
            return outcomes
        if len(batch) == 1:
            return [EngineFailed("The model failed on this image")]
        return [self._segment_or_retry([image])[0] for image in batch]

    def _segment(self, batch: Sequence[_QueuedImage]) -> list[Segmentation | MaskmillError] | None:
        """Return one outcome per image; None if the batch has failed as a whole."""
        started_at = self._batch_started_at = self._clock()
        try:
            outcomes = self._segmenter.segment([image.prepared for image in batch])
            seconds = self._clock() - started_at
        except Exception:
            log.exception("batch_failed", images=len(batch))
            return None
        finally:
            self._batch_started_at = None
        if len(outcomes) != len(batch):
            log.error("batch_size_mismatched", images=len(batch), outcomes=len(outcomes))
            return None
        if not any(isinstance(outcome, MaskmillError) for outcome in outcomes):
            # An image that fails may take any time, so a batch with one says nothing of the cost.
            self._cost.observe(images=len(batch), pixels=_sum_pixels(batch), seconds=seconds)
        return outcomes

    def _add_announced(self, count: int) -> None:
        with self._changed:
            self._announced += count
            self._changed.notify_all()

    def _clear_queue(self) -> list[_QueuedImage]:
        removed, self._queue = self._queue, []
        return removed


def _build_report(
    batch: Sequence[_QueuedImage],
    outcomes: Sequence[Segmentation | MaskmillError],
    reason: DispatchReason,
    device_ms: float,
    cost: BatchCost,
) -> BatchReport:
    return BatchReport(
        size=len(batch),
        failed=sum(isinstance(outcome, MaskmillError) for outcome in outcomes),
        pixels=_sum_pixels(batch),
        reason=reason,
        wait_ms=tuple(image.ticket.wait_ms for image in batch),
        device_ms=device_ms,
        cost=cost,
    )


def _sum_pixels(images: Sequence[_QueuedImage]) -> int:
    return sum(image.pixels for image in images)


def _fail(images: Sequence[_QueuedImage], kind: type[MaskmillError], message: str) -> None:
    for image in images:
        if image.ticket.set_running_or_notify_cancel():
            image.ticket.set_exception(kind(message))
