"""The benchmarks that need real servers, as small as they can be."""

import json
import subprocess
import sys

from tests.bench.measuring import ROOT


def test_the_queue_is_measured_on_all_three_ways_through_it() -> None:
    command = [sys.executable, "-m", "tests.bench", "queue", "--tiny"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)

    assert done.returncode == 0, done.stderr
    measured = {one["bench"]: one["figures"] for one in map(json.loads, done.stdout.splitlines())}
    assert measured["queue.transport"]["jobs_per_second"] > 0
    assert measured["queue.interactive"]["stages_ms"].keys() >= {"reply", "store"}
    assert measured["queue.batch"]["stages_ms"].keys() >= {"overlay", "store"}


def test_the_host_side_is_measured_with_a_bucket_in_memory_and_a_real_one() -> None:
    command = [sys.executable, "-m", "tests.bench", "host", "--tiny"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)

    assert done.returncode == 0, done.stderr
    measured = [json.loads(line) for line in done.stdout.splitlines()]
    assert {one["settings"]["store"] for one in measured} == {"memory", "server"}
    assert all(one["figures"]["cpu_ms_per_job"] > 0 for one in measured)
    assert all(one["figures"]["stages_ms"].keys() >= {"decode", "prepare", "overlay", "store"} for one in measured)
