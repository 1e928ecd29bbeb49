"""The real servers of the stack: they come up, keep what they were told, and go."""

from pathlib import Path

import pytest
import redis

from deploy.local.processes import NotReady
from deploy.local.servers import ObjectPorts, ObjectServer, ValkeyServer, free_ports
from tests.conftest import Storage


def test_a_killed_valkey_remembers_what_it_acknowledged(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, *free_ports(1)) as server:
        server.wait_ready()
        with redis.Redis.from_url(server.url) as client:
            client.set("job", "kept")

        server.kill()
        server.start().wait_ready()

        with redis.Redis.from_url(server.url) as client:
            assert client.get("job") == b"kept"


def test_valkey_refuses_rather_than_forgets(redis_client: "redis.Redis") -> None:
    policy = redis_client.config_get("maxmemory-policy")

    assert policy == {"maxmemory-policy": "noeviction"}


def test_a_killed_object_store_keeps_its_objects_even_on_other_ports(tmp_path: Path) -> None:
    with ObjectServer(tmp_path, ObjectPorts.free(), "key", "secret") as server:
        server.wait_ready().create_bucket("bucket")
        with server.client() as client:
            client.put_object(Bucket="bucket", Key="photo", Body=b"bytes")
        server.kill()

    with ObjectServer(tmp_path, ObjectPorts.free(), "key", "secret") as server:
        server.wait_ready()
        with server.client() as client:
            body = client.get_object(Bucket="bucket", Key="photo")["Body"].read()

    assert body == b"bytes"


def test_the_object_store_turns_strangers_away(storage: Storage, tmp_path: Path) -> None:
    stranger = ObjectServer(tmp_path, storage.server.ports, storage.access_key, "guessed")

    assert storage.server.is_ready()
    assert not stranger.is_ready()


def test_a_server_that_ends_at_once_says_where_its_log_is(tmp_path: Path, valkey: ValkeyServer) -> None:
    with ValkeyServer(tmp_path, valkey.port) as second, pytest.raises(NotReady, match=r"valkey\.log"):
        second.wait_ready()
