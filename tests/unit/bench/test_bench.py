"""The benchmarks' own figures and tables; and one bench, small, so that none of its parts has gone its own way."""

import json
from pathlib import Path

import pytest

from shared.jobs.parameters import Subtask
from tests.bench import __main__ as bench
from tests.bench import postprocess, table
from tests.bench.measuring import Effort, at_once, in_turn, median_stages, spread
from worker.engine.execution_plan import has_fast_bfloat16
from worker.engine.loader import quieten

ONCE = Effort(seconds=0.0, least=3)
FACTS = {"device": "cpu", "machine": "m", "python": "3", "torch": "2", "commit": "c"}


def line(figure: float, **settings: object) -> str:
    return json.dumps({"bench": "engine", "settings": settings, "figures": {"ratio": figure}, **FACTS})


def test_the_readme_has_the_tables_of_the_results() -> None:
    assert table.written_tables() == table.tables(table.RESULTS), "run: python -m tests.bench.table"


def test_the_table_shows_the_last_measurement_of_each_setting(tmp_path: Path) -> None:
    (tmp_path / "box.jsonl").write_text("\n".join([line(1.5, batch=1), line(7.5, batch=4), line(2.5, batch=1)]))

    written = table.tables(tmp_path)

    assert "| 1 | 2.5 |\n| 4 | 7.5 |\n" in written
    assert "1.5" not in written


def test_calls_are_timed_in_turn_and_every_other_round_backwards() -> None:
    called: list[str] = []

    taken = in_turn({name: lambda name=name: called.append(name) for name in "ab"}, ONCE)

    assert "".join(called) == "abbaab"
    assert [len(taken[name]) for name in "ab"] == [3, 3]


def test_clients_call_at_the_same_time_and_every_call_counts() -> None:
    called: list[int] = []

    milliseconds, rate = at_once(4, called.append, ONCE)

    assert sorted(called) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len(milliseconds) == 12
    assert rate > 0


def test_median_and_95th_percentile_are_of_the_values_that_occurred() -> None:
    assert spread([float(value) for value in range(100, 0, -1)]) == {"median_ms": 50.5, "p95_ms": 96.0}


def test_a_stage_that_only_some_jobs_went_through_has_their_median() -> None:
    assert median_stages([{"store": 1.0}, {"store": 3.0, "overlay": 7.0}]) == {"store": 2.0, "overlay": 7.0}


@pytest.mark.parametrize("subtask", Subtask)
def test_both_sides_of_the_postprocessing_bench_give_the_same_and_something(subtask: Subtask) -> None:
    quieten()
    logits = postprocess.blobs()

    sides = [
        postprocess.CANONICAL[side](call(logits, (48, 64), subtask), subtask)
        for side, call in postprocess.SIDES.items()
    ]

    assert len(sides[0][0]) > 5
    assert postprocess.fingerprint(sides[0]) == postprocess.fingerprint(sides[1])


def test_a_bench_prints_and_appends_one_line_for_each_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "box.jsonl"

    assert bench.main(["engine", "--tiny", "--append", str(file)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert file.read_text().splitlines() == lines
    measured = [json.loads(one) for one in lines]
    assert [(one["settings"]["model"], one["settings"]["forward"]) for one in measured] == [
        ("embedded", "exact"),
        ("embedded", "fast"),
        ("swin-toy", "fast"),
        # Some processors have it, and half the digits make another image of random weights.
        *([("swin-toy", "fast, bfloat16")] if has_fast_bfloat16("cpu") else []),
    ]
    assert measured[0]["figures"]["equal"]
    assert all(one["figures"]["equal_pixels"] > 0.999 for one in measured[:3])
    assert all(one["figures"]["ratio"] > 0 for one in measured)
    assert all(one.keys() >= FACTS.keys() for one in measured)


def test_an_unknown_bench_is_refused() -> None:
    with pytest.raises(SystemExit):
        bench.main(["engine", "engines"])
