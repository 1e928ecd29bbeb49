"""What README.md says of the code is what the code says of itself."""

import re
from pathlib import Path

from tests.support.readme import README, settings_table, written_table


def test_the_table_of_settings_is_that_of_the_code() -> None:
    assert written_table() == settings_table(), "run: python -m tests.support.readme"


def test_every_setting_says_what_it_means() -> None:
    assert "| None |" not in settings_table()


def test_every_file_that_is_linked_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README.read_text()) if not link.startswith("http")]

    assert links
    assert [link for link in links if not (Path(README).parent / link).exists()] == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (README.parent / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"make ([a-z-]+)", README.read_text()))

    assert {"serve", "test"} <= named
    assert named <= targets
