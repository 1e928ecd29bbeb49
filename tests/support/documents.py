"""The documents of the repository, and the tests that they name, as in `tests/unit/test_x.py::test_y`."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
# Everything below these is installed, generated or data.
_SKIPPED_FOLDERS = {"build", "data", "node_modules"}


def find_documents() -> Iterator[Path]:
    """Yield every Markdown file of the repository."""
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [
            name
            for name in subfolders
            if name not in _SKIPPED_FOLDERS and (name == ".github" or not name.startswith("."))
        ]
        yield from (Path(folder) / name for name in names if name.endswith(".md"))


def list_missing_tests(named: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of the named tests, each a path and a function, that do not exist."""
    return [(path, test) for path, test in named if f"def {test}(" not in _read(ROOT / path)]


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
