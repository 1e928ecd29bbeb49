"""Which of the waiting images go to the device next, and when.  A pure policy: no threads, no clock, no device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from shared.jobs.model import Priority


class Reason(StrEnum):
    """Why a batch was closed."""

    FULL = "full"  # nothing more fits
    BUSY = "busy"  # its oldest image waited while the device was busy
    ALONE = "alone"  # the device was idle, and nobody else is on the way
    WAITED = "waited"  # the device was idle, and whoever was on the way did not come in time
    DRAINING = "draining"  # nobody else will come


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a batch may be and how long it may be waited for.

    max_pixels: sum over the batch; a single image above it goes alone.
    max_wait_seconds: how long an idle device waits for the company of an image that is on its way.
    batch_handicap_seconds: an interactive image goes ahead of every batch image that is not older by this much; so
        batch work always comes to its turn.
    """

    max_images: int = 8
    max_pixels: int = 32_000_000
    max_wait_seconds: float = 0.003
    batch_handicap_seconds: float = 0.5


class Waiting(Protocol):
    """What the policy has to know of an image.  Times are seconds by the clock that `now` is read from."""

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


W = TypeVar("W", bound=Waiting)


@dataclass(frozen=True, slots=True)
class Decision(Generic[W]):
    """What becomes of each waiting image.

    reason: there exactly when something is taken.
    wait_until: when to decide again about the kept, at the latest; None if a batch goes first or nothing is kept.
    """

    taken: tuple[W, ...] = ()
    canceled: tuple[W, ...] = ()
    late: tuple[W, ...] = ()
    kept: tuple[W, ...] = ()
    reason: Reason | None = None
    wait_until: float | None = None


def decide(
    waiting: Sequence[W],
    *,
    now: float,
    free_since: float,
    limits: Limits,
    is_more_coming: bool = True,
    is_draining: bool = False,
) -> Decision[W]:
    """Form the next batch for a device that is free.

    Args:
        waiting: in the order of arrival.
        now: seconds.
        free_since: when the device finished its last batch.
        is_more_coming: whether further images are being decoded or prepared just now; if not, nothing is waited for.
        is_draining: nothing more will arrive, so nothing is waited for either.
    """
    canceled = tuple(item for item in waiting if not item.is_wanted())
    gone = {id(item) for item in canceled}
    late = tuple(
        item for item in waiting if id(item) not in gone and item.deadline is not None and item.deadline <= now
    )
    gone.update(id(item) for item in late)
    live = [item for item in waiting if id(item) not in gone]
    if not live:
        return Decision(canceled=canceled, late=late)
    taken, is_full = _fill(sorted(live, key=lambda item: _turn(item, limits)), limits)
    oldest = min(item.enqueued_at for item in live)
    wait_until = oldest + limits.max_wait_seconds
    reason = _reason(
        is_full=is_full,
        had_to_wait=oldest <= free_since,
        nobody_comes=is_draining or not is_more_coming,
        is_draining=is_draining,
        is_due=now >= wait_until,
    )
    if reason is None:
        return Decision(canceled=canceled, late=late, kept=tuple(live), wait_until=wait_until)
    gone.update(id(item) for item in taken)
    kept = tuple(item for item in live if id(item) not in gone)
    return Decision(taken=taken, canceled=canceled, late=late, kept=kept, reason=reason)


def _turn(item: Waiting, limits: Limits) -> float:
    """Return the time by which images are served in order; within a priority that is the order of arrival."""
    return item.enqueued_at + (limits.batch_handicap_seconds if item.priority is Priority.NORMAL else 0.0)


def _fill(ordered: Sequence[W], limits: Limits) -> tuple[tuple[W, ...], bool]:
    """Return the longest allowed beginning of a non-empty sequence, and whether nothing more fits.

    A large image is never passed over for a smaller one behind it, or it might wait for ever.
    """
    taken: list[W] = []
    pixels = 0
    for item in ordered:
        pixels += item.pixels
        if taken and (len(taken) == limits.max_images or pixels > limits.max_pixels):
            return tuple(taken), True
        taken.append(item)
    return tuple(taken), len(taken) == limits.max_images or pixels >= limits.max_pixels


def _reason(*, is_full: bool, had_to_wait: bool, nobody_comes: bool, is_draining: bool, is_due: bool) -> Reason | None:
    """Return why the batch goes now; None if it should wait."""
    if is_full:
        return Reason.FULL
    if had_to_wait:
        return Reason.BUSY
    if nobody_comes:
        return Reason.DRAINING if is_draining else Reason.ALONE
    return Reason.WAITED if is_due else None
