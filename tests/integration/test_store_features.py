"""An object store that lacks a feature of S3 is refused at start; one that is unavailable is not."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from shared.errors import FeatureMissing, StorageUnavailable
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.features import check_features
from shared.storage.keys import STORE_CHECK_PREFIX
from tests.conftest import Storage
from tests.support import storage_proxy
from tests.support.environment import get_fields
from tests.support.gateway import open_gateway
from tests.support.start import run_refused
from tests.support.storage_proxy import Change, Exchange, open_storage_proxy

CONDITIONS = "conditional puts"


@pytest.fixture
def new_bucket(storage: Storage, new_bucket: str) -> str:
    storage.server.wait_writable(new_bucket)
    return new_bucket


@contextmanager
def open_changed_bucket(storage: Storage, name: str, change: Change, *, retries: int = 0) -> Iterator[Bucket]:
    with open_storage_proxy(storage, change) as url:
        yield open_bucket(build_settings(storage, name, url), retries=retries)


def build_settings(storage: Storage, bucket: str, url: str) -> Settings:
    return Settings(**{**get_fields(storage.get_env(bucket)), "storage_endpoint": url})


def list_left(storage: Storage, bucket: str) -> list[str]:
    found = open_bucket(build_settings(storage, bucket, storage.endpoint)).list_objects(STORE_CHECK_PREFIX)
    return [entry.key for entry in found]


def test_a_store_with_every_feature_is_accepted_and_keeps_no_trace(storage: Storage, new_bucket: str) -> None:
    bucket = open_bucket(build_settings(storage, new_bucket, storage.endpoint))

    # As when all processes of a stack start at once.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check_features(bucket), range(16)))

    assert list_left(storage, new_bucket) == []


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        (storage_proxy.ignore_conditions, CONDITIONS),
        (storage_proxy.refuse_conditions, CONDITIONS),
        (storage_proxy.conflict_on_conditions, CONDITIONS),
        (storage_proxy.drop_metadata, "metadata of objects"),
        (storage_proxy.ignore_ranges, "reading a part of an object"),
        (storage_proxy.ignore_matches, "conditional reads"),
        (storage_proxy.show_empty_listings, "listings"),
        (storage_proxy.refuse_copies, "copies of objects"),
        (storage_proxy.drop_metadata_of_copies, "copies of objects"),
        (storage_proxy.refuse_deletions, "deleting several objects at once"),
    ],
)
def test_a_missing_feature_is_named(storage: Storage, new_bucket: str, change: Change, feature: str) -> None:
    with (
        open_changed_bucket(storage, new_bucket, change) as bucket,
        pytest.raises(FeatureMissing, match=f"^The object store lacks {feature}[^.]*; use a store that has it.$"),
    ):
        check_features(bucket)


@pytest.mark.parametrize("change", [storage_proxy.be_overloaded, storage_proxy.refuse_writes])
def test_an_outage_and_credentials_that_may_only_read_are_no_missing_feature(
    storage: Storage, new_bucket: str, change: Change
) -> None:
    with open_changed_bucket(storage, new_bucket, change) as bucket, pytest.raises(StorageUnavailable):
        check_features(bucket)


def test_a_failure_that_passes_is_no_missing_feature(storage: Storage, new_bucket: str) -> None:
    failures = iter(range(1))

    def fail_once(exchange: Exchange) -> None:
        if "if-none-match" in exchange.headers and not exchange.status and next(failures, None) is not None:
            exchange.refuse(503, "SlowDown")

    with open_changed_bucket(storage, new_bucket, fail_once) as bucket:
        check_features(bucket)


@pytest.mark.parametrize("module", ["api.wsgi", "worker.main", "worker.steward"])
def test_no_process_starts_on_a_store_without_conditional_puts(
    clean_redis: str, storage: Storage, new_bucket: str, module: str
) -> None:
    with open_storage_proxy(storage, storage_proxy.ignore_conditions) as url:
        line = run_refused(module, clean_redis, build_settings(storage, new_bucket, url))

    assert "cannot start: The object store lacks conditional puts" in line


def test_a_gateway_that_started_before_its_store_is_not_ready_without_the_feature(
    clean_redis: str, storage_env: Mapping[str, str], storage: Storage
) -> None:
    with open_storage_proxy(storage, storage_proxy.ignore_conditions) as url:
        env = {**storage_env, "MASKMILL_STORAGE_ENDPOINT": url}
        gateway = open_gateway(clean_redis, env, ready_timeout_seconds=10)
        response = gateway.client.get("/readyz")

    assert response.status_code == 503
    assert CONDITIONS in response.json["checks"]["stack"]
