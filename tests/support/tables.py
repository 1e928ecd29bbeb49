"""Generated tables between marks in Markdown files."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python -m tests.support.readme"


@dataclass(frozen=True, slots=True)
class Marks:
    """The lines before and after a generated table, and the file in which they stand."""

    start: str
    end: str
    file: Path = ROOT / "README.md"

    @classmethod
    def of(cls, name: str, file: str) -> "Marks":
        return cls(f"<!-- {name}: made by {COMMAND} -->\n", f"<!-- end of {name} -->\n", ROOT / file)


def read_table(marks: Marks) -> str:
    """Return the text between two marks in their file."""
    return marks.file.read_text().partition(marks.start)[2].partition(marks.end)[0]


def write_table(marks: Marks, table: str) -> None:
    """Put a table between two marks in their file."""
    marks.file.write_text(replace_table(marks.file.read_text(), marks, table))


def replace_table(text: str, marks: Marks, table: str) -> str:
    """Return the text with this table between the marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, start, rest = text.partition(marks.start)
    _, end, after = rest.partition(marks.end)
    if not (start and end):
        raise ValueError(f"The text lacks the lines {marks.start.strip()} and {marks.end.strip()}")
    return before + start + table + end + after


def build_table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    header, *body = (f"| {' | '.join(cells)} |\n" for cells in (names, *rows))
    return "".join([header, f"|{'---|' * len(names)}\n", *body])
