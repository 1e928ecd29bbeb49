"""Requests to the stores use no proxy of the environment; the object store's own proxy is a setting."""

from collections.abc import Iterator

import pytest

from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.storage.bucket import open_bucket
from tests.conftest import Storage
from tests.support.environment import get_fields
from tests.support.proxy import RecordingProxy, serve_proxy, use_proxy


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingProxy]:
    """A proxy that the environment names for all requests."""
    with serve_proxy() as recording:
        use_proxy(monkeypatch, recording.url)
        yield recording


@pytest.fixture
def settings(storage_env: dict[str, str]) -> Settings:
    return Settings(**get_fields(storage_env))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_proxy_of_the_environment_is_not_used_for_the_object_store(
    proxy: RecordingProxy, settings: Settings, host: str
) -> None:
    endpoint = settings.storage_endpoint.replace("127.0.0.1", host)
    bucket = open_bucket(settings.model_copy(update={"storage_endpoint": endpoint}))

    bucket.put(f"proxies/{host}", b"direct", content_type="text/plain")

    assert bucket.get(f"proxies/{host}") == b"direct"
    assert proxy.requests == []


def test_the_launcher_uses_no_proxy_for_its_own_object_store(proxy: RecordingProxy, storage: Storage) -> None:
    assert storage.server.is_ready()
    assert proxy.requests == []


def test_a_proxy_that_is_set_for_the_object_store_is_used(
    proxy: RecordingProxy, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_proxy(monkeypatch, "http://127.0.0.1:1")
    bucket = open_bucket(settings.model_copy(update={"storage_proxy": proxy.url}))

    with pytest.raises(StorageUnavailable):
        bucket.get("proxies/asked")

    [request] = proxy.requests
    assert request.startswith(f"GET {settings.storage_endpoint}/{settings.storage_bucket}/proxies/asked")
