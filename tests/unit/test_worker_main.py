"""What a worker makes of its settings."""

import pytest

from worker.main import threads_of
from worker.settings import WorkerSettings


@pytest.mark.parametrize(
    ("told", "device", "threads"),
    [({}, "cpu", 8), ({}, "cuda:0", 32), ({"batch_images": 4}, "cuda", 8), ({"worker_threads": 3}, "cuda", 3)],
)
def test_a_gpu_has_one_batch_on_it_and_one_in_the_making(told: dict[str, int], device: str, threads: int) -> None:
    assert threads_of(WorkerSettings(**told), device) == threads
