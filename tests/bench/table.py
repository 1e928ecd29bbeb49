"""The tables in tests/bench/README.md, made from results/*.jsonl:  python -m tests.bench.table writes them anew.

Of measurements of the same thing under the same settings the last one counts.
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
    """Replace what stands between the marks."""
    before, _, rest = README.read_text().partition(START)
    README.write_text(before + START + tables(RESULTS) + END + rest.partition(END)[2])
    return 0


def tables(results: Path) -> str:
    """Lay out every file of results, a table for each bench."""
    return "\n".join(block for file in sorted(results.glob("*.jsonl")) for block in _file(file))


def written_tables() -> str:
    """Return what README.md has between its marks."""
    return README.read_text().partition(START)[2].partition(END)[0]


def latest(lines: Iterable[str]) -> list[Row]:
    """Return the last measurement under each bench and settings, in the order of the first ones."""
    found: dict[str, Row] = {}
    for line in lines:
        row = json.loads(line)
        found[json.dumps([row["bench"], row["settings"]], sort_keys=True)] = row
    return list(found.values())


def _file(file: Path) -> Iterator[str]:
    rows = latest(file.read_text().splitlines())
    yield f"### {file.stem}\n\n{_surroundings(rows)}\n"
    for bench in dict.fromkeys(row["bench"] for row in rows):
        alike = [row for row in rows if row["bench"] == bench]
        yield f"**{bench}**\n\n{_table(alike)}"
        if stages := list(_stages(alike)):
            yield "\n".join(stages) + "\n"


def _surroundings(rows: Sequence[Row]) -> str:
    """Name each machine, device and version that occurs."""

    def named(name: str) -> str:
        return ", ".join(dict.fromkeys(row[name] for row in rows))

    return (
        f"{named('machine')}; device {named('device')}; Python {named('python')}, torch {named('torch')}; "
        f"commit {named('commit')}."
    )


def _table(rows: Sequence[Row]) -> str:
    cells = [
        {name: value for name, value in (row["settings"] | row["figures"]).items() if not isinstance(value, dict)}
        for row in rows
    ]
    names = list(dict.fromkeys(name for row in cells for name in row))
    lines = [[name.replace("_", " ") for name in names], ["---"] * len(names)]
    lines += [[_shown(row.get(name, "")) for name in names] for row in cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _stages(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        which = f" ({', '.join(map(str, row['settings'].values()))})" if len(rows) > 1 else ""
        for name, stages in row["figures"].items():
            if isinstance(stages, dict):
                listed = ", ".join(f"{stage} {elapsed}" for stage, elapsed in stages.items())
                yield f"- {name.replace('_', ' ')}{which}: {listed}"


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.exit(main())
