"""README.md and the reference agree with the code: generated tables, links, make targets."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from tests.support.readme import MODEL_DEFAULT, README, TABLES, parameters_table, settings_table
from tests.support.tables import Marks, read_table, replace_table

MARKS = Marks("<!-- start -->\n", "<!-- end -->\n")


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Parameters(BaseModel):
    """A model with a field of each kind that parameters_table() distinguishes."""

    colour: Annotated[Colour | None, Field(description="which colour")] = None
    share: Annotated[float, Field(ge=0, le=1, description="part of it")] = 0.9
    count: Annotated[int, Field(ge=1, description="how many")] = 3
    loss: float = Field(default=0.5, le=0.75, description="how much less")
    inverted: bool = Field(default=False, description="the other way round")
    shade: Colour = Field(default=Colour.GREEN, description="which shade")
    note: str = Field(default="none", description="any text")


@pytest.mark.parametrize("marks", TABLES, ids=lambda marks: marks.start)
def test_a_table_is_made_from_the_code(marks: Marks) -> None:
    assert read_table(marks) == TABLES[marks](), "run: python -m tests.support.readme"


def test_every_setting_has_a_description() -> None:
    assert "| None |" not in settings_table()


def test_the_table_of_parameters_has_range_default_and_description_of_each_field() -> None:
    assert parameters_table(Parameters.model_fields).splitlines() == [
        "| parameter | range | default | meaning |",
        "|---|---|---|---|",
        f"| `colour` | `red`, `green` | {MODEL_DEFAULT} | which colour |",
        "| `share` | 0 to 1 | `0.9` | part of it |",
        "| `count` | at least 1 | `3` | how many |",
        "| `loss` | at most 0.75 | `0.5` | how much less |",
        "| `inverted` | `true`, `false` | `false` | the other way round |",
        "| `shade` | `red`, `green` | `green` | which shade |",
        "| `note` |  | `none` | any text |",
    ]


def test_a_table_is_replaced_between_its_marks_only() -> None:
    text = "before\n<!-- start -->\nold\n<!-- end -->\nafter\n"

    assert replace_table(text, MARKS, "new\n") == "before\n<!-- start -->\nnew\n<!-- end -->\nafter\n"


@pytest.mark.parametrize("text", ["before\n", "<!-- start -->\nold\n", "old\n<!-- end -->\n"])
def test_a_text_without_both_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="lacks"):
        replace_table(text, MARKS, "new\n")


def test_every_linked_file_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README.read_text()) if not link.startswith("http")]

    assert links
    assert [link for link in links if not (Path(README).parent / link).exists()] == []


def test_every_named_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (README.parent / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"make ([a-z-]+)", README.read_text()))

    assert {"serve", "test"} <= named
    assert named <= targets
