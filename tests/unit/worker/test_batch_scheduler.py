"""The batch scheduler over a fake segmenter that can block, fail and record its calls."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from shared.errors import Canceled, DeadlineExceeded, EngineFailed, MaskmillError, ModelNotReady, OutOfMemory
from shared.jobs.model import Priority
from shared.jobs.parameters import SegmentParameters
from tests.support.polling import wait_until
from worker.batching.cost import BatchCost
from worker.batching.policy import BatchLimits, DispatchReason
from worker.batching.scheduler import BatchReport, BatchScheduler, Ticket
from worker.segmenter import ModelImage, Prepared, Resize, Segmentation

LIMITS = BatchLimits(max_images=4, max_pixels=1000, max_wait_seconds=0.001)
TIMEOUT_SECONDS = 5.0


@dataclass
class FakeSegmenter:
    """Returns for each image a label map that holds its number; `segment` blocks until `gate` is set."""

    model: str = "test/fake"
    revision: str = "1"
    device: str = "cpu"
    resize: Resize | None = None
    outcomes: dict[int, MaskmillError | Exception] = field(default_factory=dict)
    batches: list[list[int]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    warm_up_error: Exception | None = None
    has_missing_outcome: bool = False

    def prepare(self, image: ModelImage) -> Prepared:
        raise NotImplementedError

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        numbers = [prepared.pixels for prepared in batch]
        self.batches.append(numbers)
        self.threads.add(threading.current_thread().name)
        self.entered.release()
        assert self.gate.wait(TIMEOUT_SECONDS), "the test did not set the gate"
        outcomes = [self._segment_one(number) for number in numbers]
        return outcomes[:-1] if self.has_missing_outcome else outcomes

    def _segment_one(self, number: int) -> Segmentation | MaskmillError:
        outcome = self.outcomes.get(number)
        if isinstance(outcome, MaskmillError):
            return outcome
        if outcome is not None:
            raise outcome
        return Segmentation(np.full((1, 1), number, np.uint8), ())

    def warm_up(self) -> None:
        self.threads.add(threading.current_thread().name)
        if self.warm_up_error is not None:
            raise self.warm_up_error


@dataclass
class RecordingObserver:
    """Records every event."""

    reports: list[BatchReport] = field(default_factory=list)
    dropped: list[tuple[int, int]] = field(default_factory=list)

    def batch_completed(self, report: BatchReport) -> None:
        self.reports.append(report)

    def images_dropped(self, *, canceled: int, expired: int) -> None:
        self.dropped.append((canceled, expired))


@dataclass
class FixedCost:
    """A cost that is not learned: each batch takes a millisecond, so batches are as large as allowed."""

    estimate: BatchCost = field(default_factory=lambda: BatchCost((0.001, 0.0, 0.0)))
    observed: list[tuple[int, int]] = field(default_factory=list)

    def observe(self, *, images: int, pixels: int, seconds: float) -> None:
        assert seconds >= 0
        self.observed.append((images, pixels))


@dataclass
class Clock:
    """The monotonic clock, shifted by `offset_seconds`."""

    offset_seconds: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.offset_seconds


@dataclass
class Harness:
    """A running scheduler and its collaborators."""

    segmenter: FakeSegmenter
    observer: RecordingObserver
    clock: Clock
    cost: FixedCost
    scheduler: BatchScheduler

    def submit(
        self,
        number: int,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
        pixels: int = 10,
        is_alone: bool = False,
    ) -> Ticket:
        prepared = Prepared(pixels=number, height=1, width=pixels, parameters=SegmentParameters())
        return self.scheduler.submit(
            prepared, priority=priority, deadline=deadline, is_wanted=is_wanted, is_alone=is_alone
        )

    def occupy_device(self) -> Ticket:
        """Put an image on the device that stays there until the gate is set."""
        ticket = self.submit(99)
        assert self.segmenter.entered.acquire(timeout=TIMEOUT_SECONDS)
        return ticket


@pytest.fixture
def harness() -> Iterator[Harness]:
    segmenter, observer, clock, cost = FakeSegmenter(), RecordingObserver(), Clock(), FixedCost()
    scheduler = BatchScheduler(segmenter, LIMITS, batch_timeout_seconds=60.0, observer=observer, cost=cost, clock=clock)
    scheduler.start().result(TIMEOUT_SECONDS)
    yield Harness(segmenter, observer, clock, cost, scheduler)
    segmenter.gate.set()
    assert scheduler.stop(timeout_seconds=TIMEOUT_SECONDS)


def get_number(ticket: Ticket) -> int:
    return int(ticket.result(TIMEOUT_SECONDS).label_map[0, 0])


def get_error(ticket: Ticket) -> BaseException | None:
    return ticket.exception(TIMEOUT_SECONDS)


def test_announced_images_share_a_batch_that_starts_when_the_last_one_is_submitted() -> None:
    segmenter, limits = FakeSegmenter(), replace(LIMITS, max_wait_seconds=10 * TIMEOUT_SECONDS)
    segmenter.gate.set()
    scheduler = BatchScheduler(segmenter, limits, batch_timeout_seconds=60.0, cost=FixedCost())
    scheduler.start().result(TIMEOUT_SECONDS)

    with scheduler.announce(), scheduler.announce():
        tickets = [
            scheduler.submit(Prepared(number, 1, 10, SegmentParameters()), priority=Priority.NORMAL)
            for number in (1, 2)
        ]

    assert [get_number(ticket) for ticket in tickets] == [1, 2]
    assert segmenter.batches == [[1, 2]]
    assert scheduler.stop(timeout_seconds=TIMEOUT_SECONDS)


def test_an_image_is_not_delayed_if_no_other_is_announced(harness: Harness) -> None:
    harness.segmenter.gate.set()

    with harness.scheduler.announce():
        ticket = harness.submit(1)

    assert get_number(ticket) == 1
    assert harness.observer.reports[-1].reason is DispatchReason.IDLE


def test_every_image_gets_its_own_result(harness: Harness) -> None:
    harness.segmenter.gate.set()

    tickets = [harness.submit(number) for number in range(1, 21)]

    assert [get_number(ticket) for ticket in tickets] == list(range(1, 21))


def test_many_threads_may_submit_at_once(harness: Harness) -> None:
    harness.segmenter.gate.set()
    matches: list[bool] = []

    def submit_many(first: int) -> None:
        numbers = range(first, first + 20)
        tickets = [harness.submit(number) for number in numbers]
        matches.append([get_number(ticket) for ticket in tickets] == list(numbers))

    threads = [threading.Thread(target=submit_many, args=(20 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)

    assert matches == [True] * 8


def test_only_the_device_thread_uses_the_model(harness: Harness) -> None:
    harness.segmenter.gate.set()

    get_number(harness.submit(1))

    assert harness.segmenter.threads == {"device"}


def test_images_submitted_while_the_device_is_busy_form_one_batch(harness: Harness) -> None:
    first = harness.occupy_device()
    tickets = [harness.submit(number) for number in (1, 2, 3)]
    assert harness.scheduler.queue_length == 3

    harness.segmenter.gate.set()

    assert [get_number(ticket) for ticket in (first, *tickets)] == [99, 1, 2, 3]
    assert harness.segmenter.batches == [[99], [1, 2, 3]]


def test_each_batch_is_reported_to_the_observer(harness: Harness) -> None:
    harness.occupy_device()
    tickets = [harness.submit(number) for number in (1, 2, 3, 4)]
    harness.segmenter.gate.set()
    for ticket in tickets:
        get_number(ticket)

    report = harness.observer.reports[1]

    assert (report.size, report.failed, report.pixels, report.reason) == (4, 0, 40, DispatchReason.FULL)
    assert report.wait_ms == tuple(ticket.wait_ms for ticket in tickets)
    assert all(ticket.device_ms == report.device_ms > 0 for ticket in tickets)


def test_the_next_batch_is_not_delayed_by_what_follows_a_result(harness: Harness) -> None:
    is_next_on_device: list[bool] = []
    ticket = harness.occupy_device()
    ticket.add_done_callback(lambda _: is_next_on_device.append(harness.segmenter.entered.acquire(timeout=2)))
    following = harness.submit(1)

    harness.segmenter.gate.set()

    assert get_number(following) == 1
    assert is_next_on_device == [True]


def test_tickets_are_completed_in_the_order_of_their_batches(harness: Harness) -> None:
    order: list[int] = []
    tickets = [harness.occupy_device()] + [harness.submit(number) for number in range(1, 13)]
    for ticket in tickets:
        ticket.add_done_callback(lambda done: order.append(get_number(done)))

    harness.segmenter.gate.set()

    wait_until(lambda: len(order) == 13, "all callbacks")
    assert order == [99, *range(1, 13)]


def test_an_error_of_one_image_fails_only_that_image(harness: Harness) -> None:
    harness.segmenter.outcomes[2] = OutOfMemory("too large")
    harness.occupy_device()
    tickets = [harness.submit(number) for number in (1, 2, 3)]
    harness.segmenter.gate.set()

    assert [get_number(tickets[0]), get_number(tickets[2])] == [1, 3]
    assert isinstance(get_error(tickets[1]), OutOfMemory)
    assert harness.observer.reports[1].failed == 1


def test_an_image_that_makes_the_model_raise_fails_alone(harness: Harness) -> None:
    harness.segmenter.outcomes[2] = RuntimeError("a bug")
    harness.occupy_device()
    tickets = [harness.submit(number) for number in (1, 2, 3)]
    harness.segmenter.gate.set()

    assert [get_number(tickets[0]), get_number(tickets[2])] == [1, 3]
    assert isinstance(get_error(tickets[1]), EngineFailed)
    assert harness.segmenter.batches == [[99], [1, 2, 3], [1], [2], [3]]


def test_a_missing_outcome_fails_the_batch(harness: Harness) -> None:
    harness.segmenter.has_missing_outcome = True
    harness.segmenter.gate.set()

    assert isinstance(get_error(harness.submit(1)), EngineFailed)


def test_the_scheduler_continues_after_a_failure(harness: Harness) -> None:
    harness.segmenter.outcomes[1] = RuntimeError("a bug")
    harness.segmenter.gate.set()
    get_error(harness.submit(1))

    assert get_number(harness.submit(2)) == 2
    assert harness.scheduler.is_healthy


def test_a_device_that_fails_every_batch_is_unhealthy(harness: Harness) -> None:
    harness.segmenter.outcomes = {number: RuntimeError("device lost") for number in (1, 2, 3)}
    harness.segmenter.gate.set()

    for number in (1, 2, 3):
        assert isinstance(get_error(harness.submit(number)), EngineFailed)

    assert not harness.scheduler.is_healthy


def test_what_waits_for_a_device_that_fails_every_batch_is_for_another_worker(harness: Harness) -> None:
    harness.segmenter.outcomes = dict.fromkeys((99, 1, 2), RuntimeError("device lost"))
    harness.occupy_device()
    tickets = [harness.submit(number, is_alone=True) for number in range(1, 6)]

    harness.segmenter.gate.set()

    kinds = [type(get_error(ticket)) for ticket in (*tickets, harness.submit(6))]
    assert kinds == [EngineFailed, EngineFailed, *[ModelNotReady] * 4]


def test_an_image_that_is_not_wanted_any_more_is_not_segmented(harness: Harness) -> None:
    harness.occupy_device()
    unwanted, wanted = harness.submit(1, is_wanted=lambda: False), harness.submit(2)
    harness.segmenter.gate.set()

    assert isinstance(get_error(unwanted), Canceled)
    assert get_number(wanted) == 2
    assert harness.segmenter.batches == [[99], [2]]
    assert harness.observer.dropped == [(1, 0)]


def test_a_canceled_ticket_is_not_segmented(harness: Harness) -> None:
    harness.occupy_device()
    ticket = harness.submit(1)

    assert ticket.cancel()
    harness.segmenter.gate.set()
    wait_until(lambda: harness.scheduler.queue_length == 0, "an empty queue")

    assert harness.segmenter.batches == [[99]]


def test_an_image_past_its_deadline_is_not_segmented(harness: Harness) -> None:
    harness.occupy_device()
    expired, timely = (
        harness.submit(1, deadline=harness.clock() + 10),
        harness.submit(2, deadline=harness.clock() + 1000),
    )
    harness.clock.offset_seconds = 100.0
    harness.segmenter.gate.set()

    assert isinstance(get_error(expired), DeadlineExceeded)
    assert get_number(timely) == 2
    assert harness.segmenter.batches == [[99], [2]]
    assert harness.observer.dropped == [(0, 1)]


def test_an_is_wanted_callback_that_raises_does_not_stop_the_scheduler(harness: Harness) -> None:
    def fail() -> bool:
        raise RuntimeError("a bug in a callback")

    harness.segmenter.gate.set()

    assert get_number(harness.submit(1, is_wanted=fail)) == 1
    assert get_number(harness.submit(2)) == 2


def test_interactive_images_are_served_first(harness: Harness) -> None:
    harness.occupy_device()
    tickets = [harness.submit(number, priority=Priority.NORMAL) for number in (1, 2, 3, 4)]
    tickets += [harness.submit(number) for number in (5, 6)]
    harness.segmenter.gate.set()
    for ticket in tickets:
        get_number(ticket)

    assert harness.segmenter.batches == [[99], [5, 6, 1, 2], [3, 4]]


def test_a_scheduler_is_hung_after_the_batch_timeout(harness: Harness) -> None:
    harness.occupy_device()
    assert harness.scheduler.is_healthy

    harness.clock.offset_seconds = 61.0

    assert harness.scheduler.is_hung
    assert not harness.scheduler.is_healthy


def test_a_scheduler_is_not_hung_any_more_when_its_batch_returns(harness: Harness) -> None:
    ticket = harness.occupy_device()
    harness.clock.offset_seconds = 61.0
    harness.segmenter.gate.set()

    get_number(ticket)

    assert harness.scheduler.is_healthy


def test_stopping_with_a_drain_segments_the_queued_images(harness: Harness) -> None:
    harness.occupy_device()
    tickets = [harness.submit(number) for number in range(1, 8)]
    harness.segmenter.gate.set()

    assert harness.scheduler.stop(drain=True, timeout_seconds=TIMEOUT_SECONDS)

    assert [ticket.done() for ticket in tickets] == [True] * 7
    assert [get_number(ticket) for ticket in tickets] == list(range(1, 8))


def test_stopping_without_a_drain_rejects_the_queued_images(harness: Harness) -> None:
    on_device = harness.occupy_device()
    waiting = harness.submit(1)

    assert not harness.scheduler.stop(drain=False, timeout_seconds=0.0)
    assert isinstance(get_error(waiting), ModelNotReady)
    harness.segmenter.gate.set()

    assert get_number(on_device) == 99


def test_a_stopped_scheduler_accepts_no_image(harness: Harness) -> None:
    harness.scheduler.stop(timeout_seconds=TIMEOUT_SECONDS)

    ticket = harness.submit(1)

    assert isinstance(get_error(ticket), ModelNotReady)
    assert not harness.scheduler.is_healthy


def test_a_scheduler_that_was_never_started_can_be_stopped() -> None:
    scheduler = BatchScheduler(FakeSegmenter(), LIMITS, batch_timeout_seconds=60.0)

    assert scheduler.stop()


def test_a_failed_warm_up_is_reported_and_returns_the_queued_images() -> None:
    scheduler = BatchScheduler(
        FakeSegmenter(warm_up_error=RuntimeError("no device")), LIMITS, batch_timeout_seconds=60.0
    )
    ticket = scheduler.submit(Prepared(1, 1, 1, SegmentParameters()), priority=Priority.NORMAL)

    warm_up = scheduler.start()

    assert isinstance(warm_up.exception(TIMEOUT_SECONDS), RuntimeError)
    # They are not what failed, and another worker can run them.
    assert isinstance(get_error(ticket), ModelNotReady)
    assert not scheduler.is_healthy


def test_the_cost_is_learned_from_each_batch_that_succeeds(harness: Harness) -> None:
    harness.occupy_device()
    tickets = [harness.submit(number, pixels=number) for number in (1, 2, 3)]
    harness.segmenter.gate.set()
    for ticket in tickets:
        get_number(ticket)

    assert harness.cost.observed == [(1, 10), (3, 6)]
    assert harness.observer.reports[-1].cost is harness.cost.estimate


def test_the_cost_is_not_learned_from_a_batch_with_an_error(harness: Harness) -> None:
    harness.segmenter.outcomes[2] = OutOfMemory("too large")
    harness.segmenter.gate.set()

    get_error(harness.submit(2))

    assert harness.cost.observed == []


def test_the_images_of_a_batch_that_fails_as_a_whole_are_learned_one_by_one(harness: Harness) -> None:
    harness.segmenter.outcomes[2] = RuntimeError("a bug")
    harness.occupy_device()
    tickets = [harness.submit(number) for number in (1, 2)]
    harness.segmenter.gate.set()
    for ticket in tickets:
        ticket.exception(TIMEOUT_SECONDS)

    assert harness.cost.observed == [(1, 10), (1, 10)]
