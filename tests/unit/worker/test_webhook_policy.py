"""When a delivery is repeated, and when it is given up."""

from dataclasses import replace
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.webhooks.delivery import ClaimedDelivery, Target
from shared.webhooks.outcomes import DeliveryState
from worker.steward.webhook_policy import RetryPolicy, judge_answer, judge_error, parse_retry_after

DAY = 86400.0
POLICY = RetryPolicy(DAY)
CLAIMED = ClaimedDelivery(Target("public", "wh_1"), "msg_1", "1", "job.failed", 1000.0, 1000.0, 1, 1000.0, "token")
JITTERS = st.floats(0, 1, exclude_max=True)


def test_a_receiver_that_is_away_is_tried_for_a_day() -> None:
    """The first minute has 3 attempts, the first hour 7, and the day 15, if chance takes nothing of the delays."""
    at, times = 0.0, []
    while at <= DAY:
        times.append(at)
        at += POLICY.compute_delay(len(times), jitter=0.999)

    assert [sum(time <= limit for time in times) for limit in (60, 3600, DAY)] == [3, 7, 15]


@given(attempt=st.integers(1, 10_000), jitter=JITTERS)
def test_a_delay_is_between_a_half_and_all_of_the_largest(attempt: int, jitter: float) -> None:
    delay = POLICY.compute_delay(attempt, jitter)

    assert POLICY.first_delay_seconds / 2 <= delay <= POLICY.max_delay_seconds
    assert delay <= 2 * POLICY.compute_delay(attempt + 1, jitter)


@given(status=st.integers(100, 599), attempt=st.integers(1, 50), age=st.floats(0, 2 * DAY), jitter=JITTERS)
def test_only_2xx_is_a_success_and_nothing_is_repeated_beyond_a_day(
    status: int, attempt: int, age: float, jitter: float
) -> None:
    claimed = replace(CLAIMED, attempt=attempt, now=CLAIMED.since + age)

    end = judge_answer(claimed, status, {}, policy=POLICY, jitter=jitter)

    assert (end.state is DeliveryState.DELIVERED) == (200 <= status < 300) == (end.error is None)
    assert end.is_failure == (end.state is not DeliveryState.DELIVERED)
    if status == 410:
        assert end.state is DeliveryState.FAILED
    if end.state is DeliveryState.PENDING:
        assert age + end.delay_seconds <= DAY


@pytest.mark.parametrize(("asked", "waited"), [("120", 120), ("999999", 3600), ("", 0), ("soon", 0), ("-5", 0)])
def test_a_receiver_may_ask_for_an_hour_at_most(asked: str, waited: float) -> None:
    end = judge_answer(CLAIMED, 429, {"retry-after": asked}, policy=POLICY, jitter=0)

    assert end.block_seconds == waited
    assert end.delay_seconds >= waited


def test_an_attempt_without_an_answer_is_repeated() -> None:
    end = judge_error(CLAIMED, "The server took too long.", policy=POLICY, jitter=0)

    assert (end.state, end.status, end.error) == (DeliveryState.PENDING, None, "The server took too long.")


def test_a_date_is_read_against_the_clock_of_redis() -> None:
    assert parse_retry_after(formatdate(1090, usegmt=True), 1000.0) == 90
    assert parse_retry_after(formatdate(900, usegmt=True), 1000.0) == 0


@given(text=st.text(max_size=80))
def test_any_header_is_read(text: str) -> None:
    assert parse_retry_after(text, 1000.0) >= 0
