"""What a stream of events says of a job, from its log."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.jobs.event_stream import (
    PLACE_SECONDS,
    EventStream,
    LastEvent,
    format_event,
    is_end_known,
    parse_last_event,
)
from shared.errors import BadParameter
from shared.jobs.event_log import LoggedEvent, WatchedJob
from shared.jobs.model import Failure, Job, JobState, QueuePlace
from shared.jobs.service_times import Eta
from tests.support.jobs import build_request

LOG = (
    LoggedEvent(1000, "queued", {}),
    LoggedEvent(1001, "running", {"attempt": 1}),
    LoggedEvent(1002, "stage", {"stage": "fetch", "attempt": 1}),
    LoggedEvent(1500, "succeeded", {}),
)
ENDED = WatchedJob(JobState.SUCCEEDED, LOG, attempt=1, ended_at=1.5)


def read(told: bytes) -> list[tuple[str, str]]:
    """Return the id and the name of each event."""
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines()) for block in told.decode().split("\n\n") if block
    ]
    return [(block.get("id", ""), block["event"]) for block in blocks]


def cut_log(job: WatchedJob, length: int) -> WatchedJob:
    """Return a job as it was when its log had so many events."""
    return job if length == len(job.events) else replace(job, state=JobState.RUNNING, events=job.events[:length])


@given(seen=st.integers(0, len(LOG)), steps=st.lists(st.integers(0, len(LOG)), max_size=5))
def test_each_event_is_told_once_from_the_last_id_on_however_the_log_grows(seen: int, steps: Sequence[int]) -> None:
    last = LOG[seen - 1].number if seen else 0
    stream = EventStream("a" * 32, last)

    told = b"".join([stream.tell(cut_log(ENDED, length)) for length in sorted(steps)])
    told += b"" if stream.is_ended else stream.tell(ENDED)

    expected = [(f"{one.number}{'-end' if one is LOG[-1] else ''}", one.name) for one in LOG if one.number > last]
    # A client that has seen the end and asks again without its mark is told it under a new number.
    assert read(told) == (expected or [("1501-end", "succeeded")])
    assert stream.is_ended


def test_an_end_that_is_not_in_the_log_is_told_from_the_record() -> None:
    stream = EventStream("a" * 32)

    told = stream.tell(WatchedJob(JobState.FAILED, LOG[:2], ended_at=1.25, failure=Failure("out_of_memory", "No.")))

    assert read(told)[-1] == ("1250-end", "failed")
    assert b'"error":"No.","error_type":"out_of_memory"' in told


def test_an_earlier_end_of_a_job_that_was_queued_again_does_not_end_the_stream() -> None:
    log = (LOG[0], LoggedEvent(1100, "failed", {}), LoggedEvent(1200, "queued", {}), LoggedEvent(1300, "failed", {}))
    stream = EventStream("a" * 32)

    told = stream.tell(WatchedJob(JobState.FAILED, log))

    assert [id_ for id_, _ in read(told)] == ["1000", "1100", "1200", "1300-end"]


def test_the_end_of_a_job_that_redis_has_lost_comes_after_what_was_told() -> None:
    stream = EventStream("a" * 32, last=10**13)

    told = stream.tell_stored_end(Job(build_request(), JobState.CANCELED))

    assert read(told) == [(f"{10**13 + 1}-end", "canceled")]


def test_a_place_is_told_when_it_changes_and_not_too_often() -> None:
    stream, place = EventStream("a" * 32), QueuePlace(3, 10)
    near, far = Eta(10, 20), Eta(100, 200)

    told = [
        bool(stream.tell_place(at, lambda eta=eta: eta, now))  # type: ignore[misc]
        for now, at, eta in (
            (0.0, place, None),
            (PLACE_SECONDS - 0.1, QueuePlace(2, 5), None),
            (PLACE_SECONDS, QueuePlace(2, 5), None),
            (2 * PLACE_SECONDS, QueuePlace(2, 5), near),
            (3 * PLACE_SECONDS, QueuePlace(2, 5), Eta(12, 22)),
            (4 * PLACE_SECONDS, QueuePlace(2, 5), far),
            (5 * PLACE_SECONDS, QueuePlace(2, 5), None),
        )
    ]

    assert told == [True, False, True, True, False, True, True]


@pytest.mark.parametrize(
    ("header", "last"),
    [
        (None, LastEvent()),
        ("", LastEvent()),
        ("17", LastEvent(17)),
        (" 17-end ", LastEvent(17, is_end=True)),
    ],
)
def test_the_last_event_id_is_read(header: str | None, last: LastEvent) -> None:
    assert parse_last_event(header) == last


@pytest.mark.parametrize("header", ["x", "17-", "-17", "1.5", "1" * 16, "17-end-end", "\u0661", "9" * 100_000])
def test_another_id_is_refused(header: str) -> None:
    with pytest.raises(BadParameter):
        parse_last_event(header)


def test_only_an_end_after_which_nothing_came_ends_the_asking() -> None:
    end = LastEvent(1500, is_end=True)

    assert is_end_known(end, ENDED, JobState.SUCCEEDED)
    assert is_end_known(end, None, JobState.SUCCEEDED)
    assert not is_end_known(LastEvent(1500), ENDED, JobState.SUCCEEDED)
    assert not is_end_known(LastEvent(1200, is_end=True), ENDED, JobState.SUCCEEDED)
    assert not is_end_known(end, ENDED, JobState.QUEUED)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3))
def test_an_event_has_one_line_of_data_whatever_it_says(data: dict[str, str]) -> None:
    lines = format_event("failed", data, 1, is_end=True).decode().split("\n")

    assert lines[:2] == ["id: 1-end", "event: failed"]
    assert json.loads(lines[2].removeprefix("data: ")) == data
    assert lines[3:] == ["", ""]
