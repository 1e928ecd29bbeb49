"""The real servers of the stack: start, persistence, authentication."""

from pathlib import Path

import pytest
import redis

from deploy.local.processes import NotReady
from deploy.local.servers import ObjectPorts, ObjectServer, ValkeyServer, free_ports
from tests.conftest import Storage


def test_a_killed_valkey_keeps_acknowledged_writes(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, *free_ports(1)) as server:
        server.wait_ready()
        with redis.Redis.from_url(server.url) as client:
            client.set("job", "kept")

        server.kill()
        server.start().wait_ready()

        with redis.Redis.from_url(server.url) as client:
            assert client.get("job") == b"kept"


def test_valkey_never_evicts(redis_client: "redis.Redis") -> None:
    policy = redis_client.config_get("maxmemory-policy")

    assert policy == {"maxmemory-policy": "noeviction"}


def test_a_killed_object_store_keeps_its_objects_even_on_other_ports(tmp_path: Path) -> None:
    with ObjectServer(tmp_path, ObjectPorts.allocate(), "key", "secret") as server:
        server.wait_ready().create_bucket("bucket")
        with server.client() as client:
            client.put_object(Bucket="bucket", Key="image", Body=b"bytes")
        server.kill()

    with ObjectServer(tmp_path, ObjectPorts.allocate(), "key", "secret") as server:
        server.wait_ready()
        with server.client() as client:
            body = client.get_object(Bucket="bucket", Key="image")["Body"].read()

    assert body == b"bytes"


def test_the_object_store_refuses_a_wrong_key(storage: Storage, tmp_path: Path) -> None:
    unauthorized = ObjectServer(tmp_path, storage.server.ports, storage.access_key, "guessed")

    assert storage.server.is_ready()
    assert not unauthorized.is_ready()


def test_the_error_of_a_server_that_exits_at_once_names_its_log(tmp_path: Path, valkey: ValkeyServer) -> None:
    with ValkeyServer(tmp_path, valkey.port) as second, pytest.raises(NotReady, match=r"valkey\.log"):
        second.wait_ready()
