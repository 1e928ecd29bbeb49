"""No regular expression that sees the text of a client takes longer than in proportion to its length."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import partial
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

import pytest

import api
import shared
import worker.decoding
from tests.support.cpu_time import measure_cpu_seconds

LENGTH = 20_000  # a quadratic pattern takes seconds
MAX_SECONDS = 0.1
# What follows the repetitions, so that no pattern ends with them.
ENDS = ("!", "\x00", "\n", "x")


def find_patterns() -> dict[str, re.Pattern[Any]]:
    """Return every pattern that a module of the gateway, of shared, or of the decoders keeps."""
    modules = [module for package in (api, shared, worker.decoding) for module in import_modules(package)]
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern)
    }


def import_modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def build_attacks(pattern: re.Pattern[Any]) -> Iterator[Any]:
    """Yield texts that repeat what each repetition of the pattern repeats, and then do not match."""
    tree = _parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else 0)
    for before, repeated in {("", "a"), *find_repetitions(list(tree), "")}:
        for end in ENDS:
            text = before + repeated * (LENGTH // max(1, len(repeated))) + end
            yield text.encode("latin-1") if isinstance(pattern.pattern, bytes) else text


def find_repetitions(nodes: list[Any], before: str) -> Iterator[tuple[str, str]]:
    """Yield a text that leads to each repetition, and a text that it repeats."""
    for kind, value in nodes:
        if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
            yield before, sample(list(value[2]))
        for branch in branches(kind, value):
            yield from find_repetitions(branch, before)
        before += sample([(kind, value)])


def branches(kind: Any, value: Any) -> list[list[Any]]:
    if kind is kinds.BRANCH:
        return [list(branch) for branch in value[1]]
    if kind is kinds.SUBPATTERN:
        return [list(value[3])]
    return [list(value[2])] if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT) else []


def sample(nodes: list[Any]) -> str:
    """Return a text that matches."""
    return "".join(sample_node(kind, value) for kind, value in nodes)


def sample_node(kind: Any, value: Any) -> str:
    if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
        return sample(list(value[2])) * max(1, value[0])
    if kind in (kinds.BRANCH, kinds.SUBPATTERN):
        return sample(branches(kind, value)[0])
    if kind is kinds.LITERAL:
        return chr(value)
    if kind is kinds.IN:
        return sample_set(value)
    return "a" if kind in (kinds.ANY, kinds.NOT_LITERAL) else ""


def sample_set(members: list[Any]) -> str:
    kind, value = members[0]
    if kind is kinds.NEGATE:
        return "\xff"
    if kind is kinds.CATEGORY:
        return " " if value is kinds.CATEGORY_SPACE else "1"
    return chr(value if kind is kinds.LITERAL else value[0])


PATTERNS = find_patterns()


def test_the_patterns_of_the_gateway_are_found() -> None:
    assert {"api.http.bodies._NUMBER", "api.app.REQUEST_ID", "shared.jobs.ids._JOB_ID"} <= PATTERNS.keys()


@pytest.mark.parametrize("name", PATTERNS)
def test_no_text_takes_longer_than_its_length(name: str) -> None:
    assert measure_slowest(PATTERNS[name]) < MAX_SECONDS


@pytest.mark.parametrize("source", [r"[0-9]+\.?[0-9]*", r"\xff+[^\xff\x00!x\n]"])
def test_a_pattern_that_is_not_linear_is_found(source: str) -> None:
    assert measure_slowest(re.compile(source)) > MAX_SECONDS


def measure_slowest(pattern: re.Pattern[Any]) -> float:
    """Return the longest CPU time of an attack, in seconds; stop at the first that takes too long."""
    slowest = 0.0
    for text in build_attacks(pattern):
        for run in (pattern.match, pattern.fullmatch, pattern.search):
            slowest = max(slowest, measure_cpu_seconds(partial(run, text), tries=1))
            if slowest > MAX_SECONDS:
                return slowest
    return slowest
