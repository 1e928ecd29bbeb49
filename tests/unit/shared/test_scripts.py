"""Each Lua script has a header, names its keys, and returns outcomes of its enumeration."""

import re
from enum import StrEnum
from pathlib import Path

import pytest

from shared.jobs import outcomes, script
from shared.jobs.model import JobState
from shared.webhooks import outcomes as webhook_outcomes
from shared.webhooks.script import FOLDER as WEBHOOK_FOLDER

FOLDER = Path(script.__file__).parent / "scripts"
SCRIPTS = {path.stem: path.read_text() for folder in (FOLDER, WEBHOOK_FOLDER) for path in sorted(folder.glob("*.lua"))}


def get_outcomes(name: str) -> type[StrEnum]:
    outcome = "".join(word.capitalize() for word in name.split("_")) + "Outcome"
    enumeration = getattr(outcomes, outcome, None) or getattr(webhook_outcomes, outcome)
    assert issubclass(enumeration, StrEnum)
    return enumeration


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_header_states_keys_arguments_outcomes_and_events(name: str) -> None:
    header = "".join(line for line in SCRIPTS[name].splitlines(keepends=True) if line.startswith("-- "))

    assert re.findall(r"^-- (\w+): ", header, re.MULTILINE)[:4] == ["Keys", "In", "Out", "Events"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_returned_outcome_is_in_the_enumeration(name: str) -> None:
    returned = set(re.findall(r"(?:return \{(?:[^'}]* and )?|or )'(\w+)'", SCRIPTS[name]))
    states = set(JobState) if re.search(r"return \{job\[1\]\}", SCRIPTS[name]) else set()
    # Functions that scripts share return further ones, which the header names.
    outs = SCRIPTS[name].partition("-- Out:")[2].partition("-- Events:")[0]
    shared = set(re.findall(r"\b(?:\w+_)?full\b|\bquota_\w+\b", outs))

    assert returned <= set(get_outcomes(name)) <= returned | states | shared | {outcomes.ClaimOutcome.UNREADABLE}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_key_that_is_used_is_named_in_the_header(name: str) -> None:
    text = SCRIPTS[name]
    named = re.search(r"^-- Keys: +(.*)$", text, re.MULTILINE)

    assert named is not None
    assert set(re.findall(r"\bkey\.(\w+)", text)) == set(named.group(1).split(", ")) - {"none"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_argument_that_is_used_is_named_in_the_header(name: str) -> None:
    text = SCRIPTS[name]
    named = text.partition("-- In:")[2].partition("-- Out:")[0]

    assert set(re.findall(r"\barg\.(\w+)", text)) <= set(re.findall(r"\w+", named))


@pytest.mark.parametrize("name", SCRIPTS)
def test_events_are_published_as_the_header_says(name: str) -> None:
    text = SCRIPTS[name]
    if re.search(r"\b(append_event|requeue)\(|watched then publish_event\(", text):
        expected = "the job, if it is watched"
    elif re.search(r"\bpublish_event\(", text):
        expected = "the job"
    else:
        expected = "none"

    suffix = "; on mm:canceled too, if it" if "publish_canceled(" in text else "\n"
    assert f"-- Events:  {expected}{suffix}" in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_only_the_creation_of_a_job_needs_free_memory(name: str) -> None:
    flags = SCRIPTS[name].splitlines()[0]

    creates = name in {"create", "reserve_recut"}

    assert flags in (["#!lua"] if creates else ["#!lua flags=allow-oom", "#!lua flags=no-writes"])
