"""The engine over a hand-written segmenter that can be held, broken and watched."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from PIL.Image import Image

from shared.errors import Canceled, DeadlineExceeded, EngineFailed, MaskmillError, ModelNotReady, OutOfMemory
from shared.jobs.model import Priority
from shared.jobs.parameters import SegmentParameters
from worker.batching.policy import Limits, Reason
from worker.batching.scheduler import BatchReport, BatchScheduler, Ticket
from worker.segmenter import Prepared, Segmentation

LIMITS = Limits(max_images=4, max_pixels=1000, max_wait_seconds=0.001)
SECONDS = 5.0  # the patience of these tests


@dataclass
class HandSegmenter:
    """Answers each image with a map that holds its number; `gate` holds the batch on the device while it is closed."""

    model: str = "test/hand"
    revision: str = "1"
    device: str = "cpu"
    outcomes: dict[int, MaskmillError | Exception] = field(default_factory=dict)
    batches: list[list[int]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    warm_up_error: Exception | None = None
    answers_too_few: bool = False

    def prepare(self, image: Image, parameters: SegmentParameters) -> Prepared:
        raise NotImplementedError

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        numbers = [prepared.pixels for prepared in batch]
        self.batches.append(numbers)
        self.threads.add(threading.current_thread().name)
        self.entered.release()
        assert self.gate.wait(SECONDS), "the test forgot to open the gate"
        answers = [self._answer(number) for number in numbers]
        return answers[:-1] if self.answers_too_few else answers

    def _answer(self, number: int) -> Segmentation | MaskmillError:
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
class Notebook:
    """Writes down what the engine tells."""

    reports: list[BatchReport] = field(default_factory=list)
    dropped: list[tuple[int, int]] = field(default_factory=list)

    def batch_done(self, report: BatchReport) -> None:
        self.reports.append(report)

    def images_dropped(self, *, canceled: int, late: int) -> None:
        self.dropped.append((canceled, late))


@dataclass
class Clock:
    """Time as the test wants it; the real one until `ahead` is set."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@dataclass
class Bench:
    """An engine and everything around it."""

    segmenter: HandSegmenter
    notebook: Notebook
    clock: Clock
    engine: BatchScheduler

    def submit(
        self,
        number: int,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
        pixels: int = 10,
    ) -> Ticket:
        prepared = Prepared(pixels=number, height=1, width=pixels, parameters=SegmentParameters())
        return self.engine.submit(prepared, priority=priority, deadline=deadline, is_wanted=is_wanted)

    def occupy(self) -> Ticket:
        """Put an image on the device that stays there until the gate opens."""
        ticket = self.submit(99)
        assert self.segmenter.entered.acquire(timeout=SECONDS)
        return ticket


@pytest.fixture
def bench() -> Iterator[Bench]:
    segmenter, notebook, clock = HandSegmenter(), Notebook(), Clock()
    engine = BatchScheduler(segmenter, LIMITS, batch_timeout_seconds=60.0, observer=notebook, clock=clock)
    engine.start().result(SECONDS)
    yield Bench(segmenter, notebook, clock, engine)
    segmenter.gate.set()
    assert engine.stop(timeout_seconds=SECONDS)


def number_of(ticket: Ticket) -> int:
    return int(ticket.result(SECONDS).label_map[0, 0])


def build_error(ticket: Ticket) -> BaseException | None:
    return ticket.exception(SECONDS)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def test_images_that_are_on_their_way_share_a_batch_that_goes_when_the_last_is_there() -> None:
    segmenter, patient = HandSegmenter(), replace(LIMITS, max_wait_seconds=10 * SECONDS)
    segmenter.gate.set()
    engine = BatchScheduler(segmenter, patient, batch_timeout_seconds=60.0)
    engine.start().result(SECONDS)

    with engine.coming(), engine.coming():
        tickets = [
            engine.submit(Prepared(number, 1, 10, SegmentParameters()), priority=Priority.NORMAL) for number in (1, 2)
        ]

    assert [number_of(ticket) for ticket in tickets] == [1, 2]
    assert segmenter.batches == [[1, 2]]
    assert engine.stop(timeout_seconds=SECONDS)


def test_a_lone_image_waits_for_nobody(bench: Bench) -> None:
    bench.segmenter.gate.set()

    with bench.engine.coming():
        ticket = bench.submit(1)

    assert number_of(ticket) == 1
    assert bench.notebook.reports[-1].reason is Reason.ALONE


def test_every_image_gets_its_own_result(bench: Bench) -> None:
    bench.segmenter.gate.set()

    tickets = [bench.submit(number) for number in range(1, 21)]

    assert [number_of(ticket) for ticket in tickets] == list(range(1, 21))


def test_many_threads_may_submit_at_once(bench: Bench) -> None:
    bench.segmenter.gate.set()
    found: list[bool] = []

    def caller(first: int) -> None:
        numbers = range(first, first + 20)
        tickets = [bench.submit(number) for number in numbers]
        found.append([number_of(ticket) for ticket in tickets] == list(numbers))

    threads = [threading.Thread(target=caller, args=(20 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)

    assert found == [True] * 8


def test_one_thread_alone_touches_the_model(bench: Bench) -> None:
    bench.segmenter.gate.set()

    number_of(bench.submit(1))

    assert bench.segmenter.threads == {"engine"}


def test_what_comes_while_the_device_is_busy_makes_one_batch(bench: Bench) -> None:
    first = bench.occupy()
    tickets = [bench.submit(number) for number in (1, 2, 3)]
    assert bench.engine.waiting_count == 3

    bench.segmenter.gate.set()

    assert [number_of(ticket) for ticket in (first, *tickets)] == [99, 1, 2, 3]
    assert bench.segmenter.batches == [[99], [1, 2, 3]]


def test_the_observer_hears_of_each_batch(bench: Bench) -> None:
    bench.occupy()
    tickets = [bench.submit(number) for number in (1, 2, 3, 4)]
    bench.segmenter.gate.set()
    for ticket in tickets:
        number_of(ticket)

    report = bench.notebook.reports[1]

    assert (report.size, report.failed, report.pixels, report.reason) == (4, 0, 40, Reason.FULL)
    assert report.wait_ms == tuple(ticket.wait_ms for ticket in tickets)
    assert all(ticket.device_ms == report.device_ms > 0 for ticket in tickets)


def test_an_error_of_one_image_is_that_images_alone(bench: Bench) -> None:
    bench.segmenter.outcomes[2] = OutOfMemory("too large")
    bench.occupy()
    tickets = [bench.submit(number) for number in (1, 2, 3)]
    bench.segmenter.gate.set()

    assert [number_of(tickets[0]), number_of(tickets[2])] == [1, 3]
    assert isinstance(build_error(tickets[1]), OutOfMemory)
    assert bench.notebook.reports[1].failed == 1


def test_an_image_that_breaks_the_model_fails_alone(bench: Bench) -> None:
    bench.segmenter.outcomes[2] = RuntimeError("a bug")
    bench.occupy()
    tickets = [bench.submit(number) for number in (1, 2, 3)]
    bench.segmenter.gate.set()

    assert [number_of(tickets[0]), number_of(tickets[2])] == [1, 3]
    assert isinstance(build_error(tickets[1]), EngineFailed)
    assert bench.segmenter.batches == [[99], [1, 2, 3], [1], [2], [3]]


def test_a_model_that_answers_too_few_images_has_failed(bench: Bench) -> None:
    bench.segmenter.answers_too_few = True
    bench.segmenter.gate.set()

    assert isinstance(build_error(bench.submit(1)), EngineFailed)


def test_the_engine_goes_on_after_a_failure(bench: Bench) -> None:
    bench.segmenter.outcomes[1] = RuntimeError("a bug")
    bench.segmenter.gate.set()
    build_error(bench.submit(1))

    assert number_of(bench.submit(2)) == 2
    assert bench.engine.is_healthy


def test_a_device_that_fails_every_batch_is_unhealthy(bench: Bench) -> None:
    bench.segmenter.outcomes = {number: RuntimeError("device lost") for number in (1, 2, 3)}
    bench.segmenter.gate.set()

    for number in (1, 2, 3):
        assert isinstance(build_error(bench.submit(number)), EngineFailed)

    assert not bench.engine.is_healthy


def test_what_is_not_wanted_any_more_gets_no_device_time(bench: Bench) -> None:
    bench.occupy()
    unwanted, wanted = bench.submit(1, is_wanted=lambda: False), bench.submit(2)
    bench.segmenter.gate.set()

    assert isinstance(build_error(unwanted), Canceled)
    assert number_of(wanted) == 2
    assert bench.segmenter.batches == [[99], [2]]
    assert bench.notebook.dropped == [(1, 0)]


def test_a_canceled_ticket_gets_no_device_time(bench: Bench) -> None:
    bench.occupy()
    ticket = bench.submit(1)

    assert ticket.cancel()
    bench.segmenter.gate.set()
    wait_until(lambda: bench.engine.waiting_count == 0)

    assert bench.segmenter.batches == [[99]]


def test_what_is_past_its_deadline_gets_no_device_time(bench: Bench) -> None:
    bench.occupy()
    late, early = bench.submit(1, deadline=bench.clock() + 10), bench.submit(2, deadline=bench.clock() + 1000)
    bench.clock.ahead = 100.0
    bench.segmenter.gate.set()

    assert isinstance(build_error(late), DeadlineExceeded)
    assert number_of(early) == 2
    assert bench.segmenter.batches == [[99], [2]]
    assert bench.notebook.dropped == [(0, 1)]


def test_a_question_that_breaks_does_not_stop_the_engine(bench: Bench) -> None:
    def broken() -> bool:
        raise RuntimeError("cannot tell")

    bench.segmenter.gate.set()

    assert number_of(bench.submit(1, is_wanted=broken)) == 1
    assert number_of(bench.submit(2)) == 2


def test_interactive_images_go_first(bench: Bench) -> None:
    bench.occupy()
    tickets = [bench.submit(number, priority=Priority.NORMAL) for number in (1, 2, 3, 4)]
    tickets += [bench.submit(number) for number in (5, 6)]
    bench.segmenter.gate.set()
    for ticket in tickets:
        number_of(ticket)

    assert bench.segmenter.batches == [[99], [5, 6, 1, 2], [3, 4]]


def test_a_batch_that_does_not_return_makes_the_engine_stuck(bench: Bench) -> None:
    bench.occupy()
    assert bench.engine.is_healthy

    bench.clock.ahead = 61.0

    assert bench.engine.is_stuck
    assert not bench.engine.is_healthy


def test_an_engine_that_got_its_batch_back_is_not_stuck_any_more(bench: Bench) -> None:
    ticket = bench.occupy()
    bench.clock.ahead = 61.0
    bench.segmenter.gate.set()

    number_of(ticket)

    assert bench.engine.is_healthy


def test_stopping_with_a_drain_serves_what_waits(bench: Bench) -> None:
    bench.occupy()
    tickets = [bench.submit(number) for number in range(1, 8)]
    bench.segmenter.gate.set()

    assert bench.engine.stop(drain=True, timeout_seconds=SECONDS)

    assert [ticket.done() for ticket in tickets] == [True] * 7
    assert [number_of(ticket) for ticket in tickets] == list(range(1, 8))


def test_stopping_without_a_drain_gives_back_what_waits(bench: Bench) -> None:
    on_device = bench.occupy()
    waiting = bench.submit(1)

    assert not bench.engine.stop(drain=False, timeout_seconds=0.0)
    assert isinstance(build_error(waiting), ModelNotReady)
    bench.segmenter.gate.set()

    assert number_of(on_device) == 99


def test_a_stopped_engine_takes_nothing(bench: Bench) -> None:
    bench.engine.stop(timeout_seconds=SECONDS)

    ticket = bench.submit(1)

    assert isinstance(build_error(ticket), ModelNotReady)
    assert not bench.engine.is_healthy


def test_an_engine_that_was_never_started_can_be_stopped() -> None:
    engine = BatchScheduler(HandSegmenter(), LIMITS, batch_timeout_seconds=60.0)

    assert engine.stop()


def test_a_warm_up_that_fails_is_told_and_nothing_waits_for_ever() -> None:
    engine = BatchScheduler(HandSegmenter(warm_up_error=RuntimeError("no device")), LIMITS, batch_timeout_seconds=60.0)
    ticket = engine.submit(Prepared(1, 1, 1, SegmentParameters()), priority=Priority.NORMAL)

    warm = engine.start()

    assert isinstance(warm.exception(SECONDS), RuntimeError)
    assert isinstance(build_error(ticket), EngineFailed)
    assert not engine.is_healthy
