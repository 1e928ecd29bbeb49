"""Times of RFC 3339: what is written is read again, and what is no such time is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from shared.rfc3339 import Timestamp, format_timestamp, parse_timestamp

MOMENT = 1795908693.123


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_a_time_is_read_as_it_was_written_to_the_millisecond(moment: datetime) -> None:
    unix = moment.replace(tzinfo=UTC).timestamp()

    text = format_timestamp(unix)

    assert 0 <= unix - parse_timestamp(text) + 1e-4 < 1.2e-3
    assert format_timestamp(parse_timestamp(text)) == text


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.integers(-23 * 60, 23 * 60))
def test_every_zone_names_the_same_moment(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))

    assert parse_timestamp(zoned.isoformat()) == pytest.approx(zoned.timestamp(), abs=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-28T23:31:33.123Z",
        "2026-11-28t23:31:33.123z",
        "2026-11-28 23:31:33.123Z",
        "2026-11-29T00:31:33.123000000+01:00",
        "2026-11-28T20:01:33.123-03:30",
    ],
)
def test_every_form_of_the_standard_is_read(text: str) -> None:
    assert parse_timestamp(text) == pytest.approx(MOMENT, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1795908693",
        "2026-11-28",
        "2026-11-28T23:31:33",
        "2026-11-28T23:31:33 01:00",
        "2026-13-28T23:31:33Z",
        "2026-11-28T23:31:60Z",
        "0001-01-01T00:00:00+01:00",
        "２026-11-28T23:31:33Z",
        "2026-11-28T23:31:33Z" + " " * 100,
        "2026-11-28T23:31:33Z\n",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|no time"):
        parse_timestamp(text)


def test_a_field_of_a_view_is_a_text_in_json_and_seconds_inside() -> None:
    adapter: TypeAdapter[float | None] = TypeAdapter(Timestamp | None)

    assert adapter.validate_python("2026-11-28T23:31:33.123Z") == pytest.approx(MOMENT)
    assert adapter.dump_python(MOMENT, mode="json") == "2026-11-28T23:31:33.123Z"
    assert adapter.dump_python(None, mode="json") is None
    assert adapter.json_schema()["anyOf"][0]["format"] == "date-time"
