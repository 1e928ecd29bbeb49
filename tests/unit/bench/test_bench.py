"""The benchmarks' statistics and tables, and one benchmark as a smoke test of its parts."""

import json
from pathlib import Path

import pytest

from shared.formats.registry import FORMAT_NAMES
from shared.jobs.parameters import Subtask
from tests.bench import __main__ as bench
from tests.bench import formats, postprocess, table
from tests.bench.measurement import (
    TINY_WORKLOAD,
    Workload,
    latency_summary,
    stage_medians,
    time_concurrent,
    time_interleaved,
)
from tests.bench.processor import has_fast_bfloat16
from worker.engine.loader import silence_transformers

THREE_CALLS = Workload(seconds=0.0, min_calls=3)
ENVIRONMENT = {"device": "cpu", "machine": "m", "python": "3", "torch": "2", "commit": "c"}


def result_line(ratio: float, **settings: object) -> str:
    return json.dumps({"bench": "engine", "settings": settings, "figures": {"ratio": ratio}, **ENVIRONMENT})


def test_the_readme_has_the_tables_of_the_results() -> None:
    assert table.read_tables() == table.tables(table.RESULTS), "run: python -m tests.bench.table"


def test_the_table_shows_the_last_measurement_of_each_setting(tmp_path: Path) -> None:
    lines = [result_line(1.5, batch=1), result_line(7.5, batch=4), result_line(2.5, batch=1)]
    (tmp_path / "box.jsonl").write_text("\n".join(lines))

    generated = table.tables(tmp_path)

    assert "| 1 | 2.5 |\n| 4 | 7.5 |\n" in generated
    assert "1.5" not in generated


def test_interleaved_calls_reverse_their_order_every_second_round() -> None:
    calls: list[str] = []

    times_ms = time_interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, THREE_CALLS)

    assert "".join(calls) == "abbaab"
    assert [len(times_ms[name]) for name in "ab"] == [3, 3]


def test_each_concurrent_client_makes_the_minimum_of_calls_and_all_are_counted() -> None:
    calls: list[int] = []

    times_ms, rate = time_concurrent(4, calls.append, THREE_CALLS)

    assert sorted(calls) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len(times_ms) == 12
    assert rate > 0


def test_the_95th_percentile_is_one_of_the_measured_values() -> None:
    assert latency_summary([float(value) for value in range(100, 0, -1)]) == {"median_ms": 50.5, "p95_ms": 96.0}


def test_the_median_of_a_stage_is_that_of_the_jobs_that_have_it() -> None:
    assert stage_medians([{"store": 1.0}, {"store": 3.0, "overlay": 7.0}]) == {"store": 2.0, "overlay": 7.0}


@pytest.mark.parametrize("subtask", Subtask)
def test_both_sides_of_the_postprocessing_bench_give_equal_and_non_empty_results(subtask: Subtask) -> None:
    silence_transformers()
    logits = postprocess.blob_logits()

    results = [
        postprocess.CANONICALIZERS[side](call(logits, (48, 64), subtask), subtask)
        for side, call in postprocess.SIDES.items()
    ]

    assert len(results[0][0]) > 5
    assert postprocess.digest(results[0]) == postprocess.digest(results[1])


def test_a_bench_prints_and_appends_one_line_per_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "box.jsonl"

    assert bench.main(["engine", "--tiny", "--append", str(file)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert file.read_text().splitlines() == lines
    rows = [json.loads(line) for line in lines]
    assert [(row["settings"]["model"], row["settings"]["forward"]) for row in rows] == [
        ("embedded", "exact"),
        ("embedded", "fast"),
        ("swin-toy", "fast"),
        # Only some processors compute bfloat16 fast; its rounding changes the masks of random weights.
        *([("swin-toy", "fast, bfloat16")] if has_fast_bfloat16() else []),
    ]
    assert rows[0]["figures"]["equal"]
    assert all(row["figures"]["equal_pixels"] > 0.999 for row in rows[:3])
    assert all(row["figures"]["ratio"] > 0 for row in rows)
    assert all(row.keys() >= ENVIRONMENT.keys() for row in rows)


def test_an_unknown_bench_is_refused() -> None:
    with pytest.raises(SystemExit):
        bench.main(["engine", "engines"])


def test_the_formats_bench_measures_every_format() -> None:
    measured = list(formats.run(TINY_WORKLOAD))

    assert len(measured) == len(formats.SEGMENTS)
    for one in measured:
        assert one.figures["corners"] > 0
        assert {f"{name}_cpu_ms" for name in FORMAT_NAMES} <= one.figures.keys()
