"""The queue's benchmark over its own real servers and workers, as small as it can be."""

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
