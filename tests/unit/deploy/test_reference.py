"""The reference of jobs agrees with the code: options, states, events and priorities."""

import re
from typing import Any

import pytest

from shared.jobs.model import JobState, Priority
from shared.webhooks.endpoint import PING, JobEvent
from tests.support.reference import describe_values
from tests.support.tables import ROOT

DOCS = ROOT / "deploy" / "docs"
JOBS = (DOCS / "reference" / "jobs.md").read_text()


def read_section(title: str) -> str:
    return JOBS.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def read_first_cells(title: str) -> list[str]:
    """Return the words in code of the first cells of the table in a section."""
    cells = re.findall(r"^\| (`[^|]+) \|", read_section(title), re.MULTILINE)
    return [word for cell in cells for word in re.findall(r"`(\w+)`", cell)]


def test_the_states_and_what_follows_each_are_those_of_jobs() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \|", read_section("States"), re.MULTILINE)

    assert rows == [(state, "yes" if state.is_final else "no") for state in JobState]


def test_the_priorities_are_those_of_jobs() -> None:
    assert read_first_cells("Priorities") == list(Priority)


def test_the_events_are_those_that_scripts_and_streams_write() -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "shared/jobs/scripts").glob("*.lua"))
    scripts += "".join(path.read_text() for path in (ROOT / "shared/jobs").glob("*.py"))
    stream = (ROOT / "api/jobs/event_stream.py").read_text()
    logged = set(re.findall(r"(?:add|append)_event\([^'\n]*'(\w+)'", scripts))
    told = set(re.findall(r'^(?:POSITION|DELETED) = "(\w+)"', stream, re.MULTILINE))

    named = read_first_cells("Events of a stream")

    assert len(logged) >= 4 and len(told) == 2
    assert set(named) == logged | told | set(JobState)
    assert len(named) == len(set(named))


def test_the_events_of_webhooks_are_those_that_are_sent() -> None:
    named = re.findall(r"`((?:job|webhook)\.\w+)`", read_section("Events of webhooks"))

    assert named == [*JobEvent, PING]


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"type": "string", "enum": ["low", "normal"]}, "`low`, `normal`"),
        ({"type": "boolean"}, "`true`, `false`"),
        ({"type": "number", "minimum": 0, "maximum": 100.0}, "0 to 100"),
        ({"type": "number", "exclusiveMinimum": 0}, "more than 0"),
        ({"type": "array", "items": {"type": "string"}}, "a list of texts, or texts by commas"),
        ({"type": "object"}, "a JSON object"),
        ({"type": "string", "maxLength": 9}, "a text"),
    ],
)
def test_the_values_of_an_option_are_those_of_its_schema(schema: dict[str, Any], values: str) -> None:
    assert describe_values(schema) == values
