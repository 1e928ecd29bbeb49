"""How the worker derives its threads and its model cache from the settings."""

from pathlib import Path

import pytest

from worker.main import open_model_cache, thread_count
from worker.settings import WorkerSettings


@pytest.mark.parametrize(
    ("settings", "device", "threads"),
    [({}, "cpu", 8), ({}, "cuda:0", 32), ({"max_batch_images": 4}, "cuda", 8), ({"worker_threads": 3}, "cuda", 3)],
)
def test_a_gpu_has_threads_for_two_batches(settings: dict[str, int], device: str, threads: int) -> None:
    assert thread_count(WorkerSettings(**settings), device) == threads


def test_a_temporary_model_cache_is_deleted_when_the_model_is_loaded(tmp_path: Path) -> None:
    with open_model_cache(WorkerSettings()) as temporary:
        assert Path(temporary).is_dir()
    with open_model_cache(WorkerSettings(model_cache=str(tmp_path))) as configured:
        assert Path(configured) == tmp_path

    assert not Path(temporary).exists()
    assert tmp_path.is_dir()
