"""SECURITY.md and the threat model agree with the code: settings, tests and log events that they name exist."""

import re

import pytest

from api.http.tokens import Scope
from api.settings import ApiSettings
from shared.settings import Settings
from tests.support.documents import NAMED_TEST, ROOT, list_missing_tests
from worker.settings import RendererSettings, StewardSettings, WorkerSettings

DOCUMENTS = ["SECURITY.md", "deploy/docs/security.md"]
ACTORS = [
    "Any web page in the user's browser",
    "A client without a token",
    "A client with a token, and another tenant",
    "A hostile picture",
    "A hostile model",
    "A local user, and a client on the network",
]
SETTING = re.compile(r"MASKMILL_[A-Z0-9_]+")
EVENT = re.compile(r"`((?:job|tokens)_[a-z_]+)`")


def read(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_named_setting_exists(name: str) -> None:
    kinds = (Settings, ApiSettings, WorkerSettings, RendererSettings, StewardSettings)
    known = {f"MASKMILL_{field.upper()}" for kind in kinds for field in kind.model_fields}

    named = set(SETTING.findall(read(name)))

    assert named
    assert named - known == set()


def test_every_named_test_exists() -> None:
    named = NAMED_TEST.findall(read("deploy/docs/security.md"))

    assert len(named) > 20
    assert list_missing_tests(named) == []


def test_every_named_event_is_logged() -> None:
    code = "".join(path.read_text() for path in (ROOT / "api").rglob("*.py"))

    named = {event for name in DOCUMENTS for event in EVENT.findall(read(name))}

    assert {"job_submitted", "job_canceled", "job_purged", "tokens_not_reloaded"} <= named
    assert {event for event in named if f'"{event}"' not in code} == set()


def test_each_actor_has_a_table_of_attacks_with_tests() -> None:
    text = read("deploy/docs/security.md")
    sections = {part.partition("\n")[0]: part for part in re.split(r"^###? ", text, flags=re.MULTILINE)}

    for actor in ACTORS:
        rows = [row for row in sections[actor].splitlines() if row.startswith("| ")][1:]
        assert len(rows) >= 3, actor
        assert [row for row in rows if not NAMED_TEST.search(row)] == []


def test_every_scope_is_explained_to_operators() -> None:
    text = read("deploy/README.md")

    assert [scope for scope in Scope if f"| `{scope}` |" not in text] == []
