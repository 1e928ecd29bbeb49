"""Fixtures: a Valkey, an S3-compatible object store and the whole service, each started for the tests on free ports.

Servers and their clients are imported by the fixtures that start them, so that a unit test starts without them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.support.environment import copy_environment

if TYPE_CHECKING:
    import redis

    from deploy.local.servers import ObjectServer, ValkeyServer
    from deploy.local.stack import Stack


def pytest_configure() -> None:
    """Set a hypothesis profile without time limits; let OpenMP threads sleep; keep clients of the tests off proxies."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    loopback = "127.0.0.1,localhost,::1"
    os.environ |= dict.fromkeys(("no_proxy", "NO_PROXY"), loopback)
    hypothesis.settings.register_profile(
        "maskmill", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("maskmill")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Restrict torch to one thread: on a busy machine its threads mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Storage:
    """The address and the credentials of the tests' object store."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    server: ObjectServer

    def get_env(self, bucket: str) -> dict[str, str]:
        """Return the environment variables that configure a bucket of it."""
        return {
            "MASKMILL_STORAGE_ENDPOINT": self.endpoint,
            "MASKMILL_STORAGE_BUCKET": bucket,
            "MASKMILL_STORAGE_REGION": self.region,
            "MASKMILL_STORAGE_ACCESS_KEY": self.access_key,
            "MASKMILL_STORAGE_SECRET_KEY": self.secret_key,
        }


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A running Valkey, used by the tests only, so it can be flushed.  A test that kills it must start it again."""
    from deploy.local.servers import ValkeyServer, free_ports

    with ValkeyServer(tmp_path_factory.mktemp("valkey"), *free_ports(1)) as server:
        yield server.wait_ready()


@pytest.fixture(scope="session")
def redis_url(valkey: ValkeyServer) -> str:
    return valkey.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of an empty Valkey; its replies are bytes."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield client
        # A process of the next test does not start if Redis has the data of a stack with another bucket.
        client.flushall()


@pytest.fixture
def clean_redis(redis_client: redis.Redis, redis_url: str) -> str:
    """The URL of a Valkey that is empty when the test starts."""
    return redis_url


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """A running object store."""
    from deploy.local.servers import REGION, ObjectPorts, ObjectServer

    folder = tmp_path_factory.mktemp("seaweedfs")
    with ObjectServer(folder, ObjectPorts.allocate(), "test-access", "test-secret") as server:
        server.wait_ready()
        yield Storage(server.url, server.access_key, server.secret_key, REGION, server)
        # Its data is not needed any more, so an orderly shutdown is not either.
        server.kill()


@pytest.fixture(scope="session")
def bucket_name(storage: Storage) -> str:
    """A bucket for the test session.  Objects outlive a test, so keys must be unique."""
    name = f"tests-{uuid.uuid4().hex[:12]}"
    storage.server.create_bucket(name)
    return name


@pytest.fixture
def make_bucket(storage: Storage, s3_client: Any) -> Iterator[Callable[[], str]]:
    """Makes empty buckets, deleted after the test: each has a volume, of which the store has a few dozens."""
    names: list[str] = []

    def make() -> str:
        names.append(f"tests-{uuid.uuid4().hex[:12]}")
        storage.server.create_bucket(names[-1])
        return names[-1]

    yield make
    for name in names:
        for page in s3_client.get_paginator("list_objects_v2").paginate(Bucket=name):
            for item in page.get("Contents", ()):
                s3_client.delete_object(Bucket=name, Key=item["Key"])
        s3_client.delete_bucket(Bucket=name)


@pytest.fixture
def new_bucket(make_bucket: Callable[[], str]) -> str:
    """An empty bucket, for tests that list or delete all objects."""
    return make_bucket()


@pytest.fixture(scope="session")
def s3_client(storage: Storage) -> Iterator[Any]:
    """A boto3 client of the object store, to inspect objects."""
    with storage.server.client() as client:
        yield client


@pytest.fixture
def storage_env(storage: Storage, bucket_name: str) -> dict[str, str]:
    """The environment variables that configure the object store."""
    return storage.get_env(bucket_name)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole service as processes, ready at `.url`.  Shared by tests, which must not change its state."""
    from deploy.local.stack import Stack

    with Stack(tmp_path_factory.mktemp("stack"), environ=copy_environment()) as running:
        yield running.start()


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """The whole service for one test, which may damage it.  Takes some seconds."""
    from deploy.local.stack import Stack

    with Stack(tmp_path / "data", environ=copy_environment()) as running:
        yield running.start()
