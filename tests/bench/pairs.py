"""Compare this checkout with another commit:  python -m tests.bench.pairs BASE [queue ...] [--rounds 6]

Both run the same benchmarks in turn, in the order A B, B A, A B, ..., so that other load on the machine affects both.
Prints for each figure both medians, the change, and the spread of the change from round to round; ends with 1 if a rate
or a median time is worse by more than MAX_WORSE beyond that spread.  The other figures say where a change comes from.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tests.bench.measurement import ROOT, print_progress

MAX_WORSE = 0.03
# Figures are rounded to this, or to less.
RESOLUTION = 0.1
_RATES = ("jobs_per_second",)
_JUDGED = (*_RATES, "median_ms")
Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both sides.

    base, new: medians.  change: median over the rounds of new / base - 1, with the sign that makes worse positive.
    spread: half of the range that the middle half of the rounds takes, and at least the resolution.
    """

    name: str
    base: float
    new: float
    change: float
    spread: float

    @property
    def is_worse(self) -> bool:
        return self.name.endswith(_JUDGED) and self.change - self.spread > MAX_WORSE


def main(arguments: Sequence[str]) -> int:
    chosen = parse_arguments(arguments)
    with tempfile.TemporaryDirectory(prefix="maskmill-pairs-") as folder:
        export(chosen.base, Path(folder))
        rounds = list(run_rounds((Path(folder), ROOT), chosen.benches, chosen.rounds, chosen.seconds))
    compared = list(compare(rounds))
    print(f"{'figure':44} {'base':>10} {'new':>10} {'worse by':>9} {'spread':>8}")
    for one in compared:
        mark = "  WORSE" if one.is_worse else ""
        print(f"{one.name:44} {one.base:10.2f} {one.new:10.2f} {one.change:+9.1%} {one.spread:8.1%}{mark}")
    return int(any(one.is_worse for one in compared))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pairs", description="Compare with another commit.")
    parser.add_argument("base", help="commit to compare with")
    parser.add_argument("benches", nargs="*", default=["queue"], help="of tests.bench (default: queue)")
    parser.add_argument("--rounds", type=int, default=6, help="of both sides (default: 6)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each series of calls (default: 6)")
    return parser.parse_args(arguments)


def export(commit: str, folder: Path) -> None:
    """Write the files of a commit of this repository into a folder."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)


def run_rounds(
    checkouts: tuple[Path, Path], benches: Sequence[str], rounds: int, seconds: float
) -> Iterator[tuple[Figures, Figures]]:
    """Yield the figures of both checkouts for each round."""
    for number in range(rounds):
        order = checkouts if number % 2 == 0 else checkouts[::-1]
        print_progress(f"pairs: round {number + 1} of {rounds}")
        figures = {checkout: run_benches(checkout, benches, seconds) for checkout in order}
        yield figures[checkouts[0]], figures[checkouts[1]]


def run_benches(checkout: Path, benches: Sequence[str], seconds: float) -> Figures:
    """Return the figures of one run, by the name of the benchmark and their own."""
    command = [sys.executable, "-m", "tests.bench", "--seconds", str(seconds), *benches]
    env = os.environ | {"PYTHONPATH": str(checkout)}
    output = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, check=True).stdout
    return dict(read_figures(output.splitlines()))


def read_figures(lines: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Yield each number in the lines of a run, with its name."""
    for line in lines:
        measured = json.loads(line)
        yield from _flatten(measured["bench"], measured["figures"])


def compare(rounds: Sequence[tuple[Figures, Figures]]) -> Iterator[Comparison]:
    """Yield each figure that both sides have in all rounds."""
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for base, new in rounds:
        for name in base.keys() & new.keys():
            pairs[name].append((base[name], new[name]))
    for name in sorted(pairs):
        found = pairs[name]
        if len(found) == len(rounds) and min(min(pair) for pair in found) > 0:
            yield _compare_figure(name, found)


def _compare_figure(name: str, pairs: Sequence[tuple[float, float]]) -> Comparison:
    # A rate that falls is worse, everything else is when it grows.
    changes = [base / new - 1 if name.endswith(_RATES) else new / base - 1 for base, new in pairs]
    lower, _, upper = quantiles(changes, n=4, method="inclusive") if len(changes) > 1 else (changes[0],) * 3
    base, new = (median(side) for side in zip(*pairs, strict=True))
    return Comparison(name, base, new, median(changes), max((upper - lower) / 2, RESOLUTION / base))


def _flatten(prefix: str, figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flatten(f"{prefix}.{name}", value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}.{name}", float(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
