"""The batching policy: which queued images form the next batch, and when.  Pure: no threads, no clock, no device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from shared.jobs.model import Priority


class DispatchReason(StrEnum):
    """Why a batch is dispatched now."""

    FULL = "full"  # no further image fits
    BACKLOG = "backlog"  # its oldest image was queued while the device was busy
    IDLE = "idle"  # the device is idle, and no further image is announced
    TIMEOUT = "timeout"  # the device is idle, and an announced image did not arrive within max_wait_seconds
    DRAINING = "draining"  # no further image will be accepted


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The size of a batch, the time an idle device waits for one, and the order of priorities.

    max_pixels: sum over the batch; an image above it forms a batch of its own.
    max_wait_seconds: how long an idle device waits for an image that is announced.
    normal_handicap_seconds: an interactive image is served before each normal one, unless the normal one is older by
        at least this much.
    low_handicap_seconds: the same for low against interactive; so low yields to normal by the difference of the two.
        A handicap is finite, so no priority can starve.  At 5 s a burst of interactive requests is served first, and
        a backlog of low priority still advances within seconds.
    """

    max_images: int = 8
    max_pixels: int = 32_000_000
    max_wait_seconds: float = 0.003
    normal_handicap_seconds: float = 0.5
    low_handicap_seconds: float = 5.0

    def get_handicap_seconds(self, priority: Priority) -> float:
        """Return the delay that is added to an image's time of arrival when images are ordered."""
        match priority:
            case Priority.INTERACTIVE:
                return 0.0
            case Priority.NORMAL:
                return self.normal_handicap_seconds
            case Priority.LOW:
                return self.low_handicap_seconds


class QueuedImage(Protocol):
    """The properties of an image that the policy reads.  Times are seconds by the clock that `now` is read from."""

    @property
    def pixels(self) -> int: ...
    @property
    def priority(self) -> Priority: ...
    @property
    def deadline(self) -> float | None: ...
    @property
    def enqueued_at(self) -> float: ...
    @property
    def is_wanted(self) -> Callable[[], bool]: ...


Q = TypeVar("Q", bound=QueuedImage)


@dataclass(frozen=True, slots=True)
class BatchPlan(Generic[Q]):
    """A partition of the queue.

    batch: images to dispatch now, in the order in which they are served.
    canceled: images that are not wanted any more.
    expired: images whose deadline has passed.
    waiting: images that stay queued, in the order of arrival.
    reason: set exactly if the batch is not empty.
    wait_until: the latest time to plan again; None if there is a batch or nothing is waiting.
    """

    batch: tuple[Q, ...] = ()
    canceled: tuple[Q, ...] = ()
    expired: tuple[Q, ...] = ()
    waiting: tuple[Q, ...] = ()
    reason: DispatchReason | None = None
    wait_until: float | None = None


def plan_batch(
    queued: Sequence[Q],
    *,
    now: float,
    idle_since: float,
    limits: BatchLimits,
    is_more_announced: bool = True,
    is_draining: bool = False,
) -> BatchPlan[Q]:
    """Plan the next batch for a device that is idle.

    Args:
        queued: in the order of arrival.
        now: seconds.
        idle_since: when the device finished its last batch, seconds.
        is_more_announced: whether further images are being decoded or prepared; if not, the batch is not delayed.
        is_draining: whether the queue accepts no further image; the batch is not delayed then either.
    """
    canceled = tuple(image for image in queued if not image.is_wanted())
    removed = {id(image) for image in canceled}
    expired = tuple(image for image in queued if id(image) not in removed and _is_expired(image, now))
    removed.update(id(image) for image in expired)
    live = [image for image in queued if id(image) not in removed]
    if not live:
        return BatchPlan(canceled=canceled, expired=expired)
    batch, is_full = _fill_batch(sorted(live, key=lambda image: _service_time(image, limits)), limits)
    oldest = min(image.enqueued_at for image in live)
    wait_until = oldest + limits.max_wait_seconds
    reason = _choose_reason(
        is_full=is_full,
        is_backlog=oldest <= idle_since,
        is_more_expected=is_more_announced and not is_draining,
        is_draining=is_draining,
        is_timed_out=now >= wait_until,
    )
    if reason is None:
        return BatchPlan(canceled=canceled, expired=expired, waiting=tuple(live), wait_until=wait_until)
    removed.update(id(image) for image in batch)
    waiting = tuple(image for image in live if id(image) not in removed)
    return BatchPlan(batch=batch, canceled=canceled, expired=expired, waiting=waiting, reason=reason)


def _is_expired(image: QueuedImage, now: float) -> bool:
    return image.deadline is not None and image.deadline <= now


def _service_time(image: QueuedImage, limits: BatchLimits) -> float:
    """Return the time by which images are ordered; within a priority that is the order of arrival."""
    return image.enqueued_at + limits.get_handicap_seconds(image.priority)


def _fill_batch(ordered: Sequence[Q], limits: BatchLimits) -> tuple[tuple[Q, ...], bool]:
    """Return the longest prefix of a non-empty sequence that fits the limits, and whether no further image fits.

    A large image is never overtaken by a smaller one behind it; otherwise it could starve.
    """
    batch: list[Q] = []
    pixels = 0
    for image in ordered:
        pixels += image.pixels
        if batch and (len(batch) == limits.max_images or pixels > limits.max_pixels):
            return tuple(batch), True
        batch.append(image)
    return tuple(batch), len(batch) == limits.max_images or pixels >= limits.max_pixels


def _choose_reason(
    *, is_full: bool, is_backlog: bool, is_more_expected: bool, is_draining: bool, is_timed_out: bool
) -> DispatchReason | None:
    """Return why the batch is dispatched now; None if it should wait."""
    if is_full:
        return DispatchReason.FULL
    if is_backlog:
        return DispatchReason.BACKLOG
    if not is_more_expected:
        return DispatchReason.DRAINING if is_draining else DispatchReason.IDLE
    return DispatchReason.TIMEOUT if is_timed_out else None
