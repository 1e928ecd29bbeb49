"""Tests that documents name, as in `tests/unit/test_x.py::test_y`."""

import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def list_missing_tests(named: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of the named tests, each a path and a function, that do not exist."""
    return [(path, test) for path, test in named if f"def {test}(" not in _read(ROOT / path)]


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
