"""An idle service leaves the processor alone."""

import pytest

from deploy.local.sample_job import run_sample
from deploy.local.stack import Stack
from tests.bench.idle import find_processes, measure_idle

SECONDS = 10.0
# A minute of `python -m tests.bench idle` has less than 1; ten seconds have one run of each rare duty, or two.
MAX_PERCENT = 3.0


@pytest.mark.timeout(300)
def test_an_idle_service_uses_little_of_a_core(stack: Stack) -> None:
    run_sample(stack.client)

    percent = measure_idle(stack, SECONDS)

    assert {"gateway", "engine", "host", "renderer", "steward"} <= set(find_processes(stack).values())
    assert percent["together"] <= MAX_PERCENT, percent
