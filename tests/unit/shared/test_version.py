"""One version, said in two places."""

import tomllib
from pathlib import Path

from shared import __version__


def test_the_code_and_the_project_file_name_the_same_version() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]

    assert project["version"] == __version__
