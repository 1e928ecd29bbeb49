"""Checks of the options of a job: one meaning for each spelling, and errors that name the known values."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.job_options import (
    JOB_MEMBERS,
    MAX_METADATA_DEPTH,
    parse_duration,
    parse_job_options,
    parse_metadata,
)
from api.jobs.admission import JobOptions
from api.jobs.limits import OptionLimits
from shared.errors import BadParameter, ClientError, MetadataTooLarge
from shared.jobs.format_options import FormatOptions
from shared.jobs.model import Priority

LIMITS = OptionLimits(deadline_seconds=3600, metadata_bytes=100)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def parse(cancel_after: str | None = None, **raw: object) -> JobOptions:
    return parse_job_options(raw, cancel_after, LIMITS)


def test_without_options_nothing_is_asked_for() -> None:
    assert parse() == JobOptions()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"priority": "low"}, JobOptions(priority=Priority.LOW)),
        ({"deadline_seconds": 30}, JobOptions(deadline_seconds=30.0)),
        ({"deadline_seconds": "0.5"}, JobOptions(deadline_seconds=0.5)),
        ({"labels": " person, car,,person"}, JobOptions(labels=("person", "car"))),
        ({"labels": ["door, double door", "7"]}, JobOptions(labels=("door, double door", "7"))),
        ({"labels": []}, JobOptions()),
        ({"metadata": '{"a": [1, "x"]}'}, JobOptions(metadata={"a": [1, "x"]})),
        ({"metadata": {"a": None}}, JobOptions(metadata={"a": None})),
        ({"webhook": " https://example.com/hook "}, JobOptions(webhook="https://example.com/hook")),
        ({"polygon_tolerance": "2.5"}, JobOptions(format_options=FormatOptions(polygon_tolerance=2.5))),
        ({"polygon_tolerance": 0}, JobOptions(format_options=FormatOptions(polygon_tolerance=0.0))),
        ({"coco_polygons": "true"}, JobOptions(format_options=FormatOptions(coco_polygons=True))),
        ({"coco_polygons": True}, JobOptions(format_options=FormatOptions(coco_polygons=True))),
        ({"recut": "semantic"}, JobOptions(keeps_all_queries=True)),
        (dict.fromkeys(JOB_MEMBERS), JobOptions()),
    ],
)
def test_an_option_has_one_meaning_as_text_and_as_json(raw: dict[str, Any], expected: JobOptions) -> None:
    assert parse(**raw) == expected


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"priority": "urgent"}, ("'urgent'", "interactive, normal, low")),
        ({"priority": 1}, ("interactive, normal, low",)),
        ({"deadline_seconds": 0}, ("above 0 and at most 3600 s",)),
        ({"deadline_seconds": 3601}, ("3601",)),
        ({"deadline_seconds": True}, ("a number of seconds",)),
        ({"deadline_seconds": "1m"}, ("a number of seconds",)),
        ({"labels": {"a": 1}}, ("labels",)),
        ({"labels": [1]}, ("labels",)),
        ({"labels": ["x" * 201]}, ("200 characters",)),
        ({"labels": [str(n) for n in range(257)]}, ("256 names",)),
        ({"metadata": "[1]"}, ("metadata must be a JSON object",)),
        ({"metadata": "{"}, ("metadata must be a JSON object",)),
        ({"metadata": 5}, ("metadata must be a JSON object",)),
        ({"webhook": 5}, ("webhook",)),
        ({"webhook": "x" * 2049}, ("2048",)),
        ({"webhook": "a\nb"}, ("printable",)),
        ({"polygon_tolerance": 101}, ("from 0 to 100", "101")),
        ({"polygon_tolerance": "x"}, ("from 0 to 100", "'x'")),
        ({"coco_polygons": "maybe"}, ("true or false", "'maybe'")),
        ({"coco_polygons": 1}, ("true or false",)),
        ({"recut": "panoptic"}, ("semantic", "'panoptic'")),
        ({"recut": ["semantic"]}, ("semantic",)),
    ],
)
def test_a_wrong_value_is_refused_with_the_known_ones(raw: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(BadParameter) as error:
        parse(**raw)

    assert all(word in str(error.value) for word in words), error.value


def test_metadata_over_the_limit_have_an_error_of_their_own() -> None:
    fitting, larger = {"a": "x" * 92}, {"a": "\u00fc" * 47}

    assert parse(metadata=fitting).metadata == fitting
    with pytest.raises(MetadataTooLarge, match="102 bytes"):
        parse(metadata=larger)


def test_metadata_are_refused_beyond_a_depth() -> None:
    deep: object = 1
    for _ in range(MAX_METADATA_DEPTH):
        deep = {"a": deep}

    assert parse_metadata(deep, 10_000) == deep
    with pytest.raises(BadParameter, match="inside one another"):
        parse_metadata({"a": deep}, 10_000)
    for _ in range(400):
        deep = [deep]
    with pytest.raises(BadParameter, match="inside one another"):
        parse_metadata({"a": deep}, 10_000)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m", 60), ("2h", 7200), ("1h30m", 5400), ("90", 90), ("0.5s", 0.5), (" 1m ", 60)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1m, 2m", "1d", "1 m", "s", "1m30", "nan", "\u0661s"])
def test_another_text_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None


def test_the_header_is_a_deadline_and_excludes_another() -> None:
    assert parse("1m").deadline_seconds == 60
    for cancel_after, raw in (("2h", {}), ("soon", {}), ("0s", {}), ("1m", {"deadline_seconds": 60})):
        with pytest.raises(BadParameter, match="Cancel-After"):
            parse(cancel_after, **raw)


@given(st.dictionaries(st.sampled_from(JOB_MEMBERS), JSON))
def test_any_json_is_read_or_refused(raw: dict[str, Any]) -> None:
    try:
        options = parse_job_options(raw, None, LIMITS)
    except ClientError:
        return
    assert (
        len(json.dumps(options.metadata, ensure_ascii=False, separators=(",", ":")).encode())
        <= 2 * LIMITS.metadata_bytes
    )


@given(st.text(alphabet="0123456789hms. -", max_size=12))
def test_any_text_is_a_duration_that_is_not_negative_or_none(text: str) -> None:
    seconds = parse_duration(text)

    assert seconds is None or seconds >= 0
