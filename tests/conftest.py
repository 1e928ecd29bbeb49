"""Real servers for the tests: a Valkey and an S3-compatible store of our own, on free ports, gone afterwards."""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis

from deploy.local.servers import REGION, ObjectPorts, ObjectServer, ValkeyServer, free_ports
from deploy.local.stack import Stack


def pytest_configure() -> None:
    """Judge examples by what they do, not by their time; and let torch's threads sleep, not spin, while they wait."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    hypothesis.settings.register_profile(
        "maskmill", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("maskmill")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On a busy machine torch's threads spend most of their time waiting for each other."""
    # Most tests need no torch, and importing it takes seconds.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the tests' object store is, and the keys to it."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    server: ObjectServer


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A running Valkey, so that flushing it can hurt nobody.  A test that kills it must start it again."""
    with ValkeyServer(tmp_path_factory.mktemp("valkey"), *free_ports(1)) as server:
        yield server.wait_ready()


@pytest.fixture(scope="session")
def redis_url(valkey: ValkeyServer) -> str:
    return valkey.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator["redis.Redis"]:
    """A client of an empty Valkey; it answers bytes."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def clean_redis(redis_client: "redis.Redis", redis_url: str) -> str:
    """The URL of a Valkey that was emptied for this test."""
    return redis_url


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """A running object store."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    with ObjectServer(folder, ObjectPorts.allocate(), "test-access", "test-secret") as server:
        server.wait_ready()
        yield Storage(server.url, server.access_key, server.secret_key, REGION, server)
        # Nothing of a test's store needs to survive.
        server.kill()


@pytest.fixture(scope="session")
def bucket_name(storage: Storage) -> str:
    """A bucket of this test session's own.  Keys in it outlive a test, so make them unlike each other."""
    name = f"tests-{uuid.uuid4().hex[:12]}"
    storage.server.create_bucket(name)
    return name


@pytest.fixture
def new_bucket(storage: Storage) -> str:
    """An empty bucket, for the tests that list or sweep."""
    name = f"tests-{uuid.uuid4().hex[:12]}"
    storage.server.create_bucket(name)
    return name


@pytest.fixture(scope="session")
def s3_client(storage: Storage) -> Iterator[Any]:
    """A plain boto3 client of the object store, to look at what was stored."""
    with storage.server.client() as client:
        yield client


@pytest.fixture
def storage_env(storage: Storage, bucket_name: str) -> dict[str, str]:
    """The settings of the object store, as a process of the stack reads them."""
    return {
        "MASKMILL_STORAGE_ENDPOINT": storage.endpoint,
        "MASKMILL_STORAGE_BUCKET": bucket_name,
        "MASKMILL_STORAGE_REGION": storage.region,
        "MASKMILL_STORAGE_ACCESS_KEY": storage.access_key,
        "MASKMILL_STORAGE_SECRET_KEY": storage.secret_key,
    }


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole service as real processes, ready to answer at `.url`.  It is shared: leave it as it was found."""
    with Stack(tmp_path_factory.mktemp("stack"), environ=_plain_environment()) as running:
        yield running.start()


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """The same for one test alone, which may break it.  Takes some seconds."""
    with Stack(tmp_path / "data", environ=_plain_environment()) as running:
        yield running.start()


def _plain_environment() -> dict[str, str]:
    """What this process was started with, less the settings of a service that somebody runs beside the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")}
