"""Generates the tables in tests/bench/README.md from results/*.jsonl:  python -m tests.bench.table

Of several measurements of one benchmark under the same settings, the last one is shown.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

README = Path(__file__).with_name("README.md")
RESULTS = Path(__file__).with_name("results")
START = "<!-- results: made by python -m tests.bench.table -->\n"
END = "<!-- end of results -->\n"

Row = dict[str, Any]


def main() -> int:
    """Replace the text between the marks in README.md."""
    before, _, rest = README.read_text().partition(START)
    README.write_text(before + START + tables(RESULTS) + END + rest.partition(END)[2])
    return 0


def tables(results: Path) -> str:
    """Return a section for each file of results, with one table per benchmark."""
    return "\n".join(block for file in sorted(results.glob("*.jsonl")) for block in _file_blocks(file))


def read_tables() -> str:
    """Return the text between the marks in README.md."""
    return README.read_text().partition(START)[2].partition(END)[0]


def latest_rows(lines: Iterable[str]) -> list[Row]:
    """Return the last measurement of each benchmark and settings, in the order of their first occurrence."""
    rows: dict[str, Row] = {}
    for line in lines:
        row = json.loads(line)
        rows[json.dumps([row["bench"], row["settings"]], sort_keys=True)] = row
    return list(rows.values())


def _file_blocks(file: Path) -> Iterator[str]:
    rows = latest_rows(file.read_text().splitlines())
    yield f"### {file.stem}\n\n{_environment_line(rows)}\n"
    for bench in dict.fromkeys(row["bench"] for row in rows):
        of_bench = [row for row in rows if row["bench"] == bench]
        yield f"**{bench}**\n\n{_table(of_bench)}"
        if stages := list(_stage_lines(of_bench)):
            yield "\n".join(stages) + "\n"


def _environment_line(rows: Sequence[Row]) -> str:
    """List each machine, device, version and commit that occurs in the rows."""

    def distinct(name: str) -> str:
        return ", ".join(dict.fromkeys(row[name] for row in rows))

    return (
        f"{distinct('machine')}; device {distinct('device')}; Python {distinct('python')}, torch {distinct('torch')}; "
        f"commit {distinct('commit')}."
    )


def _table(rows: Sequence[Row]) -> str:
    cells = [
        {name: value for name, value in (row["settings"] | row["figures"]).items() if not isinstance(value, dict)}
        for row in rows
    ]
    names = list(dict.fromkeys(name for row in cells for name in row))
    lines = [[name.replace("_", " ") for name in names], ["---"] * len(names)]
    lines += [[_format_cell(row.get(name, "")) for name in names] for row in cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _stage_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a list item for each figure that is a mapping of stages; with several rows it names the settings."""
    for row in rows:
        suffix = f" ({', '.join(map(str, row['settings'].values()))})" if len(rows) > 1 else ""
        for name, stages in row["figures"].items():
            if isinstance(stages, dict):
                listed = ", ".join(f"{stage} {elapsed}" for stage, elapsed in stages.items())
                yield f"- {name.replace('_', ' ')}{suffix}: {listed}"


def _format_cell(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.exit(main())
