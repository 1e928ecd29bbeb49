"""Stores that are reachable, take writes, or are full: what each of them answers is told apart."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from botocore.exceptions import ClientError

from deploy.local.servers import ObjectPorts, ObjectServer, ValkeyServer
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.keys import STORE_CHECK_PREFIX
from shared.store_health import StoreHealth, StoreState
from tests.conftest import Storage
from tests.support import storage_proxy
from tests.support.polling import wait_until
from tests.support.redis_memory import fill
from tests.support.storage_proxy import Change, Exchange, open_storage_proxy

Kwargs = dict[str, Any]


@pytest.fixture
def storage_settings(storage: Storage, bucket_name: str) -> Kwargs:
    return {
        "storage_endpoint": storage.endpoint,
        "storage_bucket": bucket_name,
        "storage_access_key": storage.access_key,
        "storage_secret_key": storage.secret_key,
        "storage_timeout_seconds": 1.0,
    }


@pytest.fixture
def open_health(clean_redis: str, storage_settings: Kwargs) -> Iterator[Callable[..., StoreHealth]]:
    """Opens the health of the tests' stores, with other settings."""
    with ExitStack() as stack:

        def build(**changes: Any) -> StoreHealth:
            values = {"redis_url": clean_redis, "redis_timeout_seconds": 0.5, **storage_settings, **changes}
            settings = Settings(**values)
            return StoreHealth(stack.enter_context(connect(settings)), open_bucket(settings))

        yield build


@contextmanager
def configure(client: redis.Redis, name: str, value: str) -> Iterator[None]:
    before = client.config_get(name)[name]
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, before)


@contextmanager
def freeze(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_stores_that_take_writes_are_ok_and_keep_no_trace(
    open_health: Callable[..., StoreHealth], storage_settings: Kwargs
) -> None:
    health = open_health()

    assert (health.check_redis(), health.check_bucket()) == (StoreState.OK, StoreState.OK)

    assert list(open_bucket(Settings(**storage_settings)).list_objects(STORE_CHECK_PREFIX)) == []


def test_redis_without_memory_is_full(open_health: Callable[..., StoreHealth], redis_client: redis.Redis) -> None:
    with fill(redis_client, share=1.1):
        assert open_health().check_redis() is StoreState.FULL


def test_a_replica_is_read_only(open_health: Callable[..., StoreHealth], redis_client: redis.Redis) -> None:
    redis_client.replicaof("127.0.0.1", 1)
    try:
        assert open_health().check_redis() is StoreState.READ_ONLY
    finally:
        redis_client.replicaof("NO", "ONE")


def test_redis_without_its_replicas_is_read_only(
    open_health: Callable[..., StoreHealth], redis_client: redis.Redis
) -> None:
    with configure(redis_client, "min-replicas-to-write", "1"):
        assert open_health().check_redis() is StoreState.READ_ONLY


def test_a_frozen_redis_is_unreachable(open_health: Callable[..., StoreHealth], valkey: ValkeyServer) -> None:
    with freeze(valkey.pid):
        assert open_health().check_redis() is StoreState.UNREACHABLE


def test_redis_that_is_away_is_unreachable(open_health: Callable[..., StoreHealth]) -> None:
    assert open_health(redis_url="redis://127.0.0.1:1/0").check_redis() is StoreState.UNREACHABLE


def fail_on_puts(exchange: Exchange) -> None:
    """As SeaweedFS answers if it has no volume left."""
    if exchange.method == "PUT":
        exchange.refuse(500, "InternalError")


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (storage_proxy.have_no_space, StoreState.FULL),
        (storage_proxy.exceed_quota, StoreState.FULL),
        (fail_on_puts, StoreState.FULL),
        (storage_proxy.refuse_writes, StoreState.READ_ONLY),
        (storage_proxy.refuse_everything, StoreState.UNREACHABLE),
        (storage_proxy.be_overloaded, StoreState.UNREACHABLE),
    ],
)
def test_answers_of_object_stores(
    open_health: Callable[..., StoreHealth], storage: Storage, change: Change, state: StoreState
) -> None:
    with open_storage_proxy(storage, change) as url:
        assert open_health(storage_endpoint=url).check_bucket() is state


def test_an_object_store_that_is_away_is_unreachable(open_health: Callable[..., StoreHealth]) -> None:
    assert open_health(storage_endpoint="http://127.0.0.1:1").check_bucket() is StoreState.UNREACHABLE


def test_a_missing_bucket_is_unreachable(open_health: Callable[..., StoreHealth]) -> None:
    assert open_health(storage_bucket="tests-missing").check_bucket() is StoreState.UNREACHABLE


class SmallObjectServer(ObjectServer):
    """An object store with one volume of one megabyte."""

    def _command(self) -> list[str]:
        return [*super()._command(), "-volume.max=1", "-master.volumeSizeLimitMB=1"]


def test_a_full_object_store_is_full_and_a_frozen_one_unreachable(
    open_health: Callable[..., StoreHealth], tmp_path: Path
) -> None:
    with SmallObjectServer(tmp_path, ObjectPorts.allocate(), "test-access", "test-secret") as server:
        server.wait_ready()
        server.create_bucket("small")
        server.wait_writable("small")
        changes = {"storage_endpoint": server.url, "storage_bucket": "small"}
        health = open_health(**changes)
        assert health.check_bucket() is StoreState.OK
        fill_bucket(server, "small")

        wait_until(lambda: open_health(**changes).check_bucket() is StoreState.FULL, seconds=10)
        with freeze(server.pid):
            assert open_health(**changes).check_bucket() is StoreState.UNREACHABLE
        server.kill()


def fill_bucket(server: ObjectServer, bucket: str) -> None:
    with server.client() as client, suppress(ClientError):
        for number in range(20):
            client.put_object(Bucket=bucket, Key=f"filler-{number}", Body=bytes(300_000))


class CountedBucket(Bucket):
    """Counts the objects that are stored."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket._store, bucket._slow)
        self.count = 0

    def put_first(self, key: str, content: bytes, *, content_type: str) -> bool:
        self.count += 1
        return super().put_first(key, content, content_type=content_type)


def test_a_state_is_kept_for_two_seconds(redis_client: redis.Redis, storage_settings: Kwargs) -> None:
    now = 100.0
    bucket = CountedBucket(open_bucket(Settings(**storage_settings)))
    health = StoreHealth(redis_client, bucket, clock=lambda: now)

    assert {health.check_bucket() for _ in range(3)} == {StoreState.OK}
    now += 1.9
    health.check_bucket()
    assert bucket.count == 1
    now += 0.2
    health.check_bucket()
    assert bucket.count == 2


def test_what_a_failed_deletion_left_does_not_matter(
    redis_client: redis.Redis, storage: Storage, storage_settings: Kwargs
) -> None:
    def keep(exchange: Exchange) -> None:
        if exchange.method in ("DELETE", "POST"):
            exchange.refuse(503, "SlowDown")

    now = 100.0
    with open_storage_proxy(storage, keep) as url:
        bucket = open_bucket(Settings(**storage_settings | {"storage_endpoint": url}))
        health = StoreHealth(redis_client, bucket, clock=lambda: now)
        assert health.check_bucket() is StoreState.OK
        now += 10
        assert health.check_bucket() is StoreState.OK
