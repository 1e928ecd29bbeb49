"""The batching policy: which queued images form the next batch, and when.  Pure: no threads, no clock, no device."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import Generic, NamedTuple, Protocol, TypeVar

from shared.jobs.model import Priority
from worker.batching.cost import PIXELS_PER_MEGAPIXEL, BatchCost

# A batch is large enough at this share of the images per second that the largest allowed one would reach.
MIN_THROUGHPUT_SHARE = 0.97
# A batch that holds interactive and other images may take this share of max_interactive_wait_seconds: its interactive
# images have already waited for the batch before it.
MIXED_WAIT_SHARE = 0.5
# The expected duration of a batch may be wrong by this share (standard deviation); a less certain one is too large to
# be tried yet.  It lets batches double.
MAX_DEVIATION = 0.3
# The fixed part may be uncertain by this share of a batch; then a batch of another size is run, which tells more.
MAX_FIXED_DEVIATION = 0.08


class DispatchReason(StrEnum):
    """Why a batch is dispatched now."""

    FULL = "full"  # no further image fits, or would raise the throughput by much
    BACKLOG = "backlog"  # its oldest image was queued while the device was busy
    IDLE = "idle"  # the device is idle, and no further image is announced
    TIMEOUT = "timeout"  # the device is idle, and an announced image did not arrive within max_wait_seconds
    DRAINING = "draining"  # no further image will be accepted


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The size of a batch, the time an idle device waits for one, and the order of priorities.

    max_pixels: sum over the batch; an image above it forms a batch of its own.
    max_wait_seconds: how long an idle device waits for an image that is announced.
    max_interactive_wait_seconds: the longest batch, by its expected duration, that may hold images of normal or low
        priority; for that long an interactive image may have to wait for it.  One image is always allowed.
    normal_handicap_seconds: an interactive image is served before each normal one, unless the normal one is older by
        at least this much.
    normal_handicap_images: the same as a multiple of the time of a batch of one image, for slow devices; the longer
        time counts.  It is more than a worker holds at a time, so a backlog never grows old enough to come first.
    low_handicap_seconds, low_handicap_images: the same for low against interactive; so low yields to normal by the
        difference.  A handicap is finite, so no priority can starve.  At 5 s a burst of interactive requests is
        served first, and a backlog of low priority still advances within seconds.
    """

    max_images: int = 8
    max_pixels: int = 32_000_000
    max_wait_seconds: float = 0.003
    max_interactive_wait_seconds: float = 0.25
    normal_handicap_seconds: float = 0.5
    normal_handicap_images: int = 64
    low_handicap_seconds: float = 5.0
    low_handicap_images: int = 640

    def get_handicap_seconds(self, priority: Priority, image_seconds: float = 0.0) -> float:
        """Return the delay that is added to an image's time of arrival when images are ordered.

        Args:
            image_seconds: the expected duration of a batch of one image.
        """
        match priority:
            case Priority.INTERACTIVE:
                return 0.0
            case Priority.NORMAL:
                return max(self.normal_handicap_seconds, self.normal_handicap_images * image_seconds)
            case Priority.LOW:
                return max(self.low_handicap_seconds, self.low_handicap_images * image_seconds)


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
    def is_alone(self) -> bool: ...
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
    cost: BatchCost,
    is_more_announced: bool = True,
    is_draining: bool = False,
) -> BatchPlan[Q]:
    """Plan the next batch for a device that is idle.

    Args:
        queued: in the order of arrival.  An image that is alone has a batch of its own, and nothing waits for more
            images while there is one.
        now: seconds.
        idle_since: when the device finished its last batch, seconds.
        cost: what a batch is expected to take; it decides how many images are enough.
        is_more_announced: whether further images are being decoded or prepared; if not, the batch is not delayed.
        is_draining: whether the queue accepts no further image; the batch is not delayed then either.
    """
    canceled, expired, live = _partition(queued, now)
    if not live:
        return BatchPlan(canceled=canceled, expired=expired)
    ordered = _order(live, limits, cost)
    candidates = _cut_at_alone(ordered)
    batch, is_full = _fill_batch(candidates, limits, cost)
    is_full = is_full or len(candidates) < len(ordered) or batch[0].is_alone
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
        return BatchPlan(canceled=canceled, expired=expired, waiting=live, wait_until=wait_until)
    chosen = {id(image) for image in batch}
    waiting = tuple(image for image in live if id(image) not in chosen)
    return BatchPlan(batch=batch, canceled=canceled, expired=expired, waiting=waiting, reason=reason)


def _partition(queued: Sequence[Q], now: float) -> tuple[tuple[Q, ...], tuple[Q, ...], tuple[Q, ...]]:
    """Return the images that are not wanted any more, those whose deadline has passed, and the others."""
    canceled: list[Q] = []
    expired: list[Q] = []
    live: list[Q] = []
    for image in queued:
        if not image.is_wanted():
            canceled.append(image)
        elif _is_expired(image, now):
            expired.append(image)
        else:
            live.append(image)
    return tuple(canceled), tuple(expired), tuple(live)


def _is_expired(image: QueuedImage, now: float) -> bool:
    return image.deadline is not None and image.deadline <= now


def _order(queued: Sequence[Q], limits: BatchLimits, cost: BatchCost) -> list[Q]:
    """Return images in the order in which they are served; within a priority that is the order of arrival."""
    image_seconds = cost.seconds(1, int(PIXELS_PER_MEGAPIXEL))
    handicaps = {priority: limits.get_handicap_seconds(priority, image_seconds) for priority in Priority}
    return sorted(queued, key=lambda image: image.enqueued_at + handicaps[image.priority])


def _cut_at_alone(ordered: Sequence[Q]) -> Sequence[Q]:
    """Return the first of the images if it is alone, or those before the first one that is."""
    if ordered[0].is_alone:
        return ordered[:1]
    return list(takewhile(lambda image: not image.is_alone, ordered))


class _Size(NamedTuple):
    """The size of a batch that the policy considers.

    interactive: the number of interactive images among its images.
    """

    images: int = 0
    pixels: int = 0
    interactive: int = 0

    def add(self, image: QueuedImage) -> "_Size":
        is_interactive = image.priority is Priority.INTERACTIVE
        return _Size(self.images + 1, self.pixels + image.pixels, self.interactive + is_interactive)

    def get_max_seconds(self, limits: BatchLimits) -> float:
        """Return the limit of its duration, if it holds more than one image."""
        if self.interactive == self.images:
            return math.inf
        return limits.max_interactive_wait_seconds * (MIXED_WAIT_SHARE if self.interactive else 1.0)


def _fill_batch(ordered: Sequence[Q], limits: BatchLimits, cost: BatchCost) -> tuple[tuple[Q, ...], bool]:
    """Return the prefix of a non-empty sequence that forms the next batch, and whether no further image is needed.

    A large image is never overtaken by a smaller one behind it; otherwise it could starve.
    """
    size = _Size()
    for image in ordered:
        larger = size.add(image)
        if size.images and not _is_allowed(larger, limits, cost):
            return tuple(ordered[: _vary_size(ordered, size.images, limits, cost)]), True
        size = larger
        if _is_large_enough(size, limits, cost):
            images = _round_up(ordered, size.images, limits, cost)
            return tuple(ordered[: _vary_size(ordered, images, limits, cost)]), True
    return tuple(ordered), False


def _round_up(ordered: Sequence[QueuedImage], images: int, limits: BatchLimits, cost: BatchCost) -> int:
    """Return the next power of two, or the largest number of images, if such a batch is allowed.

    Devices are best used by powers of two, and a compiled forward pass is padded to them.
    """
    rounded = min(1 << (images - 1).bit_length(), limits.max_images)
    size = _sum_sizes(ordered[:rounded])
    return size.images if _is_allowed(size, limits, cost) else images


def _is_allowed(size: _Size, limits: BatchLimits, cost: BatchCost, *, deviations: float = 0.0) -> bool:
    """Tell whether a batch of several images is within the limits, and its duration is known well enough.

    Args:
        deviations: by how many standard deviations the duration is taken to be shorter than expected.
    """
    if size.images > limits.max_images or size.pixels > limits.max_pixels:
        return False
    seconds = cost.seconds(size.images, size.pixels)
    deviation = cost.deviation_seconds(size.images, size.pixels)
    is_known = deviation <= MAX_DEVIATION * seconds
    return is_known and seconds - deviations * deviation <= size.get_max_seconds(limits)


def _is_large_enough(size: _Size, limits: BatchLimits, cost: BatchCost) -> bool:
    """Tell whether more images of the same kind would not raise the throughput by much, or are not allowed."""
    growth = min(limits.max_images / size.images, limits.max_pixels / max(1, size.pixels))
    seconds = cost.seconds(size.images, size.pixels)
    variable_seconds = seconds - cost.fixed_seconds
    if variable_seconds > 0:
        growth = min(growth, (size.get_max_seconds(limits) - cost.fixed_seconds) / variable_seconds)
    if growth <= 1:
        return True
    largest_seconds = cost.fixed_seconds + growth * variable_seconds
    return growth * seconds * MIN_THROUGHPUT_SHARE <= largest_seconds


def _vary_size(ordered: Sequence[Q], images: int, limits: BatchLimits, cost: BatchCost) -> int:
    """Return how many images form the batch: every other time another number than `images`, if the cost is uncertain.

    Batches of one size only do not tell what part of their duration is fixed.
    """
    size = _sum_sizes(ordered[:images])
    is_certain = cost.fixed_deviation_seconds <= MAX_FIXED_DEVIATION * cost.seconds(size.images, size.pixels)
    if is_certain or cost.samples % 2:
        return images
    double = _sum_sizes(ordered[: 2 * images])
    if double.images == 2 * images and _is_allowed(double, limits, cost, deviations=1.0):
        return 2 * images
    return max(1, images // 2)


def _sum_sizes(images: Sequence[QueuedImage]) -> _Size:
    size = _Size()
    for image in images:
        size = size.add(image)
    return size


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
