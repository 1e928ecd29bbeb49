"""The real servers of the stack: start, persistence, authentication."""

import stat
from pathlib import Path

import pytest
import redis

from deploy.local.processes import NotReady
from deploy.local.servers import ObjectPorts, ObjectServer, ValkeyServer, free_ports
from tests.conftest import Storage
from tests.support.doors import find_listeners
from tests.support.polling import wait_until


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


def test_valkey_asks_for_its_password(valkey: ValkeyServer) -> None:
    with redis.Redis(port=valkey.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_a_deleted_image_is_not_kept_in_the_files_of_valkey(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, *free_ports(1)) as server:
        server.wait_ready()
        with redis.Redis.from_url(server.url) as client:
            client.set("payload", b"a face")
            client.set("job", "kept")
            assert b"a face" in read_files(tmp_path)
            client.delete("payload")

        server.forget_deleted()

    assert b"a face" not in read_files(tmp_path)
    assert b"kept" in read_files(tmp_path)


def test_the_append_only_file_is_rewritten_when_it_has_grown(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, *free_ports(1)) as server:
        server.wait_ready()
        with redis.Redis.from_url(server.url) as client:
            client.set("payload", b"a face")
            client.delete("payload")
            for _ in range(20):
                client.set("payload", bytes(1_000_000))
                client.delete("payload")

        wait_until(lambda: b"a face" not in read_files(tmp_path), "the rewrite", seconds=20)


def read_files(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*aof*") if file.is_file())


def test_no_file_of_the_servers_is_readable_by_others(storage: Storage, valkey: ValkeyServer) -> None:
    for folder in (storage.server.data_dir, valkey.data_dir):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    sockets = find_sockets(storage.server)
    assert sockets
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in sockets} == {0}


def test_the_object_store_leaves_no_sockets_behind(tmp_path: Path) -> None:
    with ObjectServer(tmp_path, ObjectPorts.allocate(), "key", "secret") as server:
        server.wait_ready()
        sockets = find_sockets(server)
        server.kill()

    assert sockets
    assert [path for path in sockets if path.exists()] == []


def find_sockets(server: ObjectServer) -> set[Path]:
    """Return the Unix sockets on which the server listens."""
    return {Path(found.address) for found in find_listeners([server.pid]) if found.kind == "unix"}
