"""The steward's periodic duties: each on its own, and one kind in one steward at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.errors import StoreUnavailable
from tests.support.polling import wait_until
from worker.steward.duties import Duty, DutyScheduler


@dataclass
class Leases:
    """Leases that are free, unless another steward holds them."""

    held_elsewhere: frozenset[str] = frozenset()
    taken: list[str] = field(default_factory=list)

    @contextmanager
    def hold(self, duty: str) -> Iterator[bool]:
        self.taken.append(duty)
        yield duty not in self.held_elsewhere


@dataclass
class Runs:
    names: list[str] = field(default_factory=list)

    def duty_completed(self, duty: str, seconds: float) -> None:
        assert seconds >= 0
        self.names.append(duty)


@contextmanager
def run_scheduler(*duties: Duty, leases: Leases | None = None) -> Iterator[Runs]:
    runs = Runs()
    scheduler = DutyScheduler(duties, leases or Leases(), runs)  # type: ignore[arg-type]
    scheduler.start()
    yield runs
    scheduler.stop()
    scheduler.join(5.0)


def test_a_failing_duty_is_repeated_and_not_noted() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(len(calls))
        raise StoreUnavailable("unavailable") if len(calls) % 2 else ZeroDivisionError("a bug")

    with run_scheduler(Duty("fail", 0.01, fail)) as runs:
        wait_until(lambda: len(calls) >= 4)

    assert runs.names == []


def test_a_slow_duty_does_not_delay_another() -> None:
    released = threading.Event()

    def wait() -> None:
        released.wait(5.0)

    with run_scheduler(Duty("slow", 0.01, wait), Duty("fast", 0.01, lambda: None)) as runs:
        wait_until(lambda: len(runs.names) >= 3)
        assert set(runs.names) == {"fast"}
        released.set()


def test_a_duty_that_finds_nothing_takes_no_lease_and_is_noted() -> None:
    leases, done = Leases(), []
    with run_scheduler(Duty("look", 0.01, done.append, find=list), leases=leases) as runs:
        wait_until(lambda: len(runs.names) >= 3)

    assert (done, leases.taken) == ([], [])


def test_a_duty_gets_what_it_found() -> None:
    done: list[list[str]] = []
    with run_scheduler(Duty("look", 0.01, done.append, find=lambda: ["job"])):
        wait_until(lambda: done)

    assert done[0] == ["job"]


def test_a_duty_that_another_steward_runs_is_skipped_and_not_noted() -> None:
    done: list[int] = []
    leases = Leases(frozenset({"delete"}))
    with run_scheduler(Duty("delete", 0.01, lambda: done.append(1)), leases=leases) as runs:
        wait_until(lambda: len(leases.taken) >= 3)

    assert (done, runs.names) == ([], [])
