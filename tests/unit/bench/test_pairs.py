"""Paired runs: the sides of a pair, which change counts, and how a difference stands out from the spread."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.bench.pairs import RESOLUTION, Comparison, compare, export, read_figures

TIME = "queue.transport.median_ms"


def find(rounds: list[tuple[dict[str, float], dict[str, float]]]) -> Comparison:
    (found,) = compare(rounds)
    return found


def test_figures_are_named_by_their_bench_and_those_of_stages_are_included() -> None:
    line = json.dumps({"bench": "queue.batch", "figures": {"jobs_per_second": 50, "stages_ms": {"store": 7.5}}})

    assert dict(read_figures([line])) == {"queue.batch.jobs_per_second": 50.0, "queue.batch.stages_ms.store": 7.5}


@pytest.mark.parametrize(
    ("name", "new", "change"),
    [("a.median_ms", 11.0, 0.1), ("a.median_ms", 9.0, -0.1), ("a.jobs_per_second", 8.0, 0.25)],
)
def test_a_time_that_grows_and_a_rate_that_falls_are_worse(name: str, new: float, change: float) -> None:
    assert find([({name: 10.0}, {name: new})] * 3).change == pytest.approx(change)


def test_load_that_both_sides_of_a_round_have_does_not_matter() -> None:
    found = find([({TIME: 10.0}, {TIME: 10.1}), ({TIME: 30.0}, {TIME: 30.3}), ({TIME: 20.0}, {TIME: 20.2})])

    assert found.change == pytest.approx(0.01)
    assert found.spread == pytest.approx(RESOLUTION / 20)
    assert not found.is_worse


def test_what_is_worse_by_more_than_the_spread_is_reported() -> None:
    assert find([({TIME: 10.0}, {TIME: new}) for new in (11.0, 11.1, 11.2)]).is_worse
    assert not find([({TIME: 10.0}, {TIME: new}) for new in (8.0, 11.0, 14.0)]).is_worse


def test_a_difference_within_the_resolution_is_not_reported() -> None:
    assert not find([({TIME: 0.1}, {TIME: 0.2})] * 3).is_worse


def test_only_rates_and_medians_are_judged() -> None:
    assert not find([({"queue.batch.stages_ms.store": 10.0}, {"queue.batch.stages_ms.store": 20.0})] * 3).is_worse


def test_a_figure_that_one_side_lacks_or_that_is_nothing_is_left_out() -> None:
    assert list(compare([({"a": 1.0, "b": 0.0}, {"b": 0.2, "c": 1.0})])) == []


def test_a_commit_is_exported(tmp_path: Path) -> None:
    export("HEAD", tmp_path)

    listed = subprocess.run(["git", "ls-tree", "--name-only", "HEAD"], capture_output=True, text=True, check=True)
    assert {path.name for path in tmp_path.iterdir()} == set(listed.stdout.split())
