"""The documents agree with the tree: links, paths, Redis keys and scripts, and the numbers of decisions."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import redis_keys
from tests.support.documents import ROOT, find_documents

# Decisions before this one name modules as they were when they were made.
FIRST_DECISION_WITH_CURRENT_PATHS = 10

FENCED_CODE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
REPOSITORY_PATH = re.compile(r"`([\w.][\w.-]*/[\w./-]+\.(?:py|md|lua|toml|yml))`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DECISION = re.compile(r"(\d{4})-[a-z0-9-]+\.md")


def find_documents_with_current_paths() -> Iterator[Path]:
    for document in DOCUMENTS:
        name = document.relative_to(ROOT).as_posix()
        decision = DECISION.fullmatch(document.name)
        if decision and int(decision[1]) < FIRST_DECISION_WITH_CURRENT_PATHS:
            continue
        if name in ("README.md", "CONTRIBUTING.md", "SECURITY.md") or name.startswith(("deploy/", "shared/")):
            yield document


def get_id(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def read_prose(document: Path) -> str:
    """Return a document without its code blocks."""
    return FENCED_CODE.sub("", document.read_text())


def read_anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    titles = HEADING.findall(read_prose(document))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def is_broken(link: str, document: Path) -> bool:
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    if not target.exists():
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in read_anchors(target)


DOCUMENTS = sorted(find_documents())
DOCUMENTS_WITH_CURRENT_PATHS = sorted(find_documents_with_current_paths())


@pytest.mark.parametrize("document", DOCUMENTS, ids=get_id)
def test_every_relative_link_resolves(document: Path) -> None:
    links = LINK.findall(INLINE_CODE.sub("", read_prose(document)))

    broken = [link for link in links if "://" not in link and is_broken(link, document)]

    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS_WITH_CURRENT_PATHS, ids=get_id)
def test_every_path_exists(document: Path) -> None:
    paths = REPOSITORY_PATH.findall(read_prose(document))

    missing = [path for path in paths if not (ROOT / path).exists()]

    assert missing == []


def test_links_and_paths_are_found_in_the_documents() -> None:
    names = {get_id(document) for document in DOCUMENTS}

    assert {"README.md", "CONTRIBUTING.md", "shared/README.md", "deploy/docs/adding-a-feature.md"} <= names
    assert len(REPOSITORY_PATH.findall(read_prose(ROOT / "deploy/docs/adding-a-feature.md"))) > 20
    assert is_broken("no-such-file.md", ROOT / "README.md")
    assert is_broken("CONTRIBUTING.md#no-such-heading", ROOT / "README.md")


def test_every_redis_key_is_described() -> None:
    described = (ROOT / "shared/README.md").read_text()

    keys = [value for name, value in vars(redis_keys).items() if name.isupper()]
    for function in vars(redis_keys).values():
        if inspect.isfunction(function):
            keys.append(function(*(f"{{{name}}}" for name in inspect.signature(function).parameters)))

    assert len(keys) > 15
    assert [key for key in keys if f"`{key}" not in described] == []


def test_every_script_is_described() -> None:
    described = (ROOT / "shared/README.md").read_text()

    scripts = {path.name for path in (ROOT / "shared").glob("*/scripts/*.lua")}

    assert scripts
    assert {name for name in scripts if f"`{name}`" not in described} == set()


def test_every_decision_has_a_number_of_its_own() -> None:
    decisions = [path for path in sorted((ROOT / "deploy/decisions").iterdir()) if DECISION.fullmatch(path.name)]

    numbers = [int(path.name[:4]) for path in decisions]

    assert numbers == list(range(1, len(numbers) + 1))
    assert [path.name for path in decisions if not path.read_text().startswith(f"# {int(path.name[:4])}. ")] == []
