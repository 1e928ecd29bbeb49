"""The version is declared in shared/__init__.py and in pyproject.toml."""

import tomllib
from pathlib import Path

from shared import __version__


def test_the_code_and_pyproject_declare_the_same_version() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]

    assert project["version"] == __version__
