"""Smoke tests of the benchmarks that need real servers."""

import json
import subprocess
import sys
from pathlib import Path

from tests.bench.measurement import ROOT


def test_the_queue_bench_measures_transport_interactive_and_batch_jobs() -> None:
    command = [sys.executable, "-m", "tests.bench", "queue", "--tiny"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)

    assert done.returncode == 0, done.stderr
    figures = {row["bench"]: row["figures"] for row in map(json.loads, done.stdout.splitlines())}
    assert figures["queue.transport"]["jobs_per_second"] > 0
    assert figures["queue.interactive"]["stages_ms"].keys() >= {"reply", "store"}
    assert figures["queue.batch"]["stages_ms"].keys() >= {"overlay", "store"}


def test_the_host_bench_measures_formats_and_numbers_of_hosts() -> None:
    command = [sys.executable, "-m", "tests.bench", "host", "--tiny"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)

    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["settings"]["formats"] for row in rows} == {"labels", "labels, masks", "labels, overlay, masks"}
    assert {row["settings"]["hosts"] for row in rows} == {1, 2, 4}
    assert all(row["figures"]["cpu_ms_per_job"] > 0 for row in rows)
    assert all(row["figures"]["stages_ms"].keys() >= {"decode", "labels", "store"} for row in rows)


def test_the_gpu_service_bench_measures_jobs_and_synchronous_calls_with_each_number_of_hosts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench.gpu_service", "--tiny", "--device", "cpu", "--out", str(tmp_path)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gpu_service.jsonl").read_text() == done.stdout
    assert (tmp_path / "worker.log").stat().st_size > 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["bench"], row["settings"]["hosts"]) for row in rows] == [
        (bench, hosts) for hosts in (1, 2) for bench in ("gpu_service.jobs",) * 2 + ("gpu_service.sync",)
    ]
    assert all(row["figures"]["images_per_second"] > 0 for row in rows)
    assert all(row["figures"]["device_busy"] > 0 for row in rows)
    cpu_ms = rows[0]["figures"]["cpu_ms"]
    assert cpu_ms["hosts"] > 0
    assert cpu_ms.keys() >= {"engine", "gateway", "valkey", "object store"}
