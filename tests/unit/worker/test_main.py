"""How the worker derives the limits of a batch and its model cache from the settings."""

from pathlib import Path

from worker.main import build_batch_limits, open_model_cache
from worker.settings import WorkerSettings


def test_the_limits_of_a_batch_are_settings() -> None:
    limits = build_batch_limits(WorkerSettings(max_interactive_wait_ms=100, max_batch_megapixels=2, max_batch_images=3))

    assert (limits.max_interactive_wait_seconds, limits.max_pixels, limits.max_images) == (0.1, 2_000_000, 3)


def test_a_temporary_model_cache_is_deleted_when_the_model_is_loaded(tmp_path: Path) -> None:
    with open_model_cache(WorkerSettings()) as temporary:
        assert Path(temporary).is_dir()
    with open_model_cache(WorkerSettings(model_cache=str(tmp_path))) as configured:
        assert Path(configured) == tmp_path

    assert not Path(temporary).exists()
    assert tmp_path.is_dir()
