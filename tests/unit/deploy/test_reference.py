"""What the documents name exists: states, events, priorities, settings, errors and metrics."""

import re
from pathlib import Path

import pytest

from api.settings import ApiSettings
from shared.errors import MaskmillError, build_error
from shared.jobs.model import JobState, Priority
from shared.settings import Settings
from shared.webhooks.endpoint import PING, JobEvent
from tests.support.reference import metrics_table
from tests.support.tables import ROOT
from worker.settings import RendererSettings, StewardSettings, WorkerSettings

DOCS = ROOT / "deploy" / "docs"
WRITTEN = sorted(
    [*DOCS.glob("how-to/*.md"), *DOCS.glob("reference/*.md"), DOCS / "tutorial.md", DOCS / "guarantees.md"]
)
JOBS = (DOCS / "reference" / "jobs.md").read_text()
SETTINGS = {
    f"MASKMILL_{name.upper()}"
    for kind in (Settings, ApiSettings, WorkerSettings, RendererSettings, StewardSettings)
    for name in kind.model_fields
} | {"MASKMILL_SECRETS_DIR"}
METRIC = re.compile(r"`(maskmill_[a-z_]+)[`{]")
METRICS = set(METRIC.findall(metrics_table()))


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


@pytest.mark.parametrize("document", WRITTEN, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_every_setting_metric_and_error_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    settings = set(re.findall(r"MASKMILL_[A-Z_]*[A-Z]", text)) - {"MASKMILL_REDIS_ULR"}
    # A setting can be a file of its name.
    metrics = set(METRIC.findall(text)) - {name.lower() for name in SETTINGS}
    errors = set(re.findall(r"(?:4\d\d|5\d\d)\s+`([a-z_]+)`", text))

    assert settings - SETTINGS == set()
    assert metrics - METRICS == set()
    assert {code for code in errors if type(build_error(code, "")) is MaskmillError} == set()
