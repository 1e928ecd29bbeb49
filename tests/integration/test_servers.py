"""The real servers of the stack: start, persistence, authentication."""

import http.client
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.local.processes import NotReady
from deploy.local.servers import ObjectPorts, ObjectServer, ValkeyServer, free_ports
from tests.conftest import Storage
from tests.support.doors import OPEN_QUESTIONS, ask, find_listeners
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


def test_valkey_is_not_ready_while_it_loads_its_data(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, *free_ports(1)) as server:
        server.wait_ready()
        with redis.Redis.from_url(server.url) as client:
            # Enough to be loaded for longer than a client needs for its first command.
            client.eval("for n = 1, 600000 do redis.call('SET', 'key' .. n, n) end", 0)

        server.kill()
        server.start().wait_ready()

        with redis.Redis.from_url(server.url) as client:
            assert client.get("key600000") == b"600000"


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


def test_the_object_store_is_writable_when_an_object_was_stored_and_not_before(storage: Storage) -> None:
    storage.server.create_bucket("probed")

    storage.server.wait_writable("probed")

    with storage.server.client() as client:
        assert "Contents" not in client.list_objects_v2(Bucket="probed")
    with pytest.raises(NotReady, match=r"stored nothing in 0 s; see .*\.log"):
        storage.server.wait_writable("not a bucket", deadline_seconds=0.3)


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


def test_no_port_of_the_object_store_serves_without_a_key(storage: Storage, s3_client: Any, bucket_name: str) -> None:
    s3_client.put_object(Bucket=bucket_name, Key="kept", Body=b"a face")
    # S3, master, volume server, filer and admin server, each with a port for gRPC; the last one begins a second later.
    wait_until(lambda: len(find_ports(storage.server)) == 10, "ten ports", seconds=10)

    answers = [answer for port in find_ports(storage.server) for answer in ask("127.0.0.1", port)]

    assert {answer.question for answer in answers if answer.is_served} <= OPEN_QUESTIONS
    content = "".join(answer.content for answer in answers)
    assert not [name for name in (storage.secret_key, bucket_name, str(storage.server.data_dir)) if name in content]
    assert s3_client.get_object(Bucket=bucket_name, Key="kept")["Body"].read() == b"a face"


def find_ports(server: ObjectServer) -> set[int]:
    return {found.port for found in find_listeners([server.pid]) if found.kind == "tcp"}


def test_the_s3_port_gives_no_leave_to_read_an_object(storage: Storage, bucket_name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", storage.server.ports.s3, timeout=5)
    with closing(connection):
        connection.request("GET", f"/{bucket_name}/kept", headers={"Origin": "https://evil.example"})
        response = connection.getresponse()

    assert response.status == 403
    assert response.headers["Access-Control-Allow-Origin"] is None


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


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes a file of another user")


@contextmanager
def leave_socket(port: int, *, user: int) -> Iterator[Path]:
    """Make what an object store of this user leaves in /tmp when it is killed, and remove it at the end."""
    path = Path(f"/tmp/seaweedfs-filer-{port}.sock")
    path.touch()
    try:
        os.chown(path, user, -1)
        yield path
    finally:
        path.unlink(missing_ok=True)


@needs_root
@pytest.mark.parametrize("offset", [0, 10_000])
@pytest.mark.parametrize(("user", "is_usable"), [(0, True), (65_534, False)])
def test_a_port_with_a_socket_of_another_user_is_not_used(offset: int, user: int, is_usable: bool) -> None:
    ports = ObjectPorts.allocate()

    with leave_socket(ports.filer + offset, user=user):
        assert ports.are_free() is is_usable
    assert ports.are_free()


@needs_root
def test_only_sockets_of_the_own_user_are_removed_from_the_ports_of_a_killed_store(tmp_path: Path) -> None:
    ports = ObjectPorts.allocate()

    with leave_socket(ports.filer, user=65_534) as foreign, leave_socket(ports.admin, user=0) as own:
        with ObjectServer(tmp_path, ports, "key", "secret") as server:
            server.kill()

        assert (foreign.exists(), own.exists()) == (True, False)


def find_sockets(server: ObjectServer) -> set[Path]:
    """Return the Unix sockets on which the server listens."""
    return {Path(found.address) for found in find_listeners([server.pid]) if found.kind == "unix"}
