"""What a worker makes of its settings."""

from pathlib import Path

import pytest

from worker.main import cache_of, threads_of
from worker.settings import WorkerSettings


@pytest.mark.parametrize(
    ("told", "device", "threads"),
    [({}, "cpu", 8), ({}, "cuda:0", 32), ({"max_batch_images": 4}, "cuda", 8), ({"worker_threads": 3}, "cuda", 3)],
)
def test_a_gpu_has_one_batch_on_it_and_one_in_the_making(told: dict[str, int], device: str, threads: int) -> None:
    assert threads_of(WorkerSettings(**told), device) == threads


def test_a_temporary_folder_for_models_goes_when_the_model_is_loaded(tmp_path: Path) -> None:
    with cache_of(WorkerSettings()) as temporary:
        assert Path(temporary).is_dir()
    with cache_of(WorkerSettings(model_cache=str(tmp_path))) as kept:
        assert Path(kept) == tmp_path

    assert not Path(temporary).exists()
    assert tmp_path.is_dir()
