"""How the worker derives its model cache from the settings."""

from pathlib import Path

from worker.main import open_model_cache
from worker.settings import WorkerSettings


def test_a_temporary_model_cache_is_deleted_when_the_model_is_loaded(tmp_path: Path) -> None:
    with open_model_cache(WorkerSettings()) as temporary:
        assert Path(temporary).is_dir()
    with open_model_cache(WorkerSettings(model_cache=str(tmp_path))) as configured:
        assert Path(configured) == tmp_path

    assert not Path(temporary).exists()
    assert tmp_path.is_dir()
