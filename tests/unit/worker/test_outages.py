"""After an outage workers renew their leases before a job counts as stalled."""

import pytest

from worker.steward.outages import OutageGrace


class Clocks:
    """The clock of Redis and that of the steward, which usually go together."""

    def __init__(self) -> None:
        self.redis, self.local = 1000.0, 50.0

    def go(self, seconds: float) -> None:
        self.redis += seconds
        self.local += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def grace(clocks: Clocks) -> OutageGrace:
    grace = OutageGrace(10.0, lambda: clocks.redis - 1, lambda: clocks.local)
    assert grace.note_answer(clocks.redis)
    return grace


def list_answers(grace: OutageGrace, clocks: Clocks, seconds: int) -> list[bool]:
    """Return whether leases are trusted at each of the next seconds."""
    answers = []
    for _ in range(seconds):
        answers.append(grace.note_answer(clocks.redis))
        clocks.go(1)
    return answers


def test_leases_are_trusted_while_redis_answers(grace: OutageGrace, clocks: Clocks) -> None:
    assert all(list_answers(grace, clocks, 30))


def test_a_pause_of_the_steward_alone_is_no_outage(grace: OutageGrace, clocks: Clocks) -> None:
    clocks.go(60)

    assert grace.note_answer(clocks.redis)


def test_after_a_failed_call_workers_have_the_time_of_a_lease(grace: OutageGrace, clocks: Clocks) -> None:
    grace.note_failure()
    clocks.go(15)

    assert list_answers(grace, clocks, 12) == [False] * 10 + [True] * 2


@pytest.mark.parametrize("jump", [30.0, -30.0])
def test_after_a_jump_of_the_clock_of_redis_leases_are_not_trusted(
    grace: OutageGrace, clocks: Clocks, jump: float
) -> None:
    clocks.redis += jump

    assert list_answers(grace, clocks, 12) == [False] * 10 + [True] * 2


@pytest.mark.parametrize(("age", "is_trusted"), [(2.0, True), (11.0, False), (None, True)])
def test_a_new_steward_trusts_leases_if_another_one_ran_just_before(
    clocks: Clocks, age: float | None, is_trusted: bool
) -> None:
    last_run = None if age is None else clocks.redis - age
    grace = OutageGrace(10.0, lambda: last_run, lambda: clocks.local)

    assert grace.note_answer(clocks.redis) is is_trusted
