"""A gateway process that gets its requests as bytes, so that they are exactly those of a browser or an attacker."""

import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.local.processes import Process
from deploy.local.servers import LOOPBACK, free_ports
from tests.conftest import Storage
from tests.support.environment import copy_environment


class RawGateway(Process):
    """`python -m api.wsgi` on a free port, or at a path."""

    def __init__(self, folder: Path, env: Mapping[str, str], bind: str = "") -> None:
        (self.port,) = free_ports(1)
        self.path = bind.removeprefix("unix:")
        address = bind or f"{LOOPBACK}:{self.port}"
        command = [sys.executable, "-m", "api.wsgi"]
        super().__init__("The gateway", command, log=folder / "gateway.log", env={**env, "MASKMILL_BIND": address})

    def is_ready(self) -> bool:
        try:
            return self.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0] == 200
        except OSError:
            return False

    def send(self, request: bytes) -> tuple[int, str]:
        """Send bytes; return the status and the error type of the response."""
        status, body = self.exchange(request)
        return status, body.get("error_type", "") if isinstance(body, dict) else ""

    def exchange(self, request: bytes) -> tuple[int, Any]:
        """Send bytes; return the status and the JSON of the response, or None."""
        connection = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET)
        with connection:
            connection.settimeout(10)
            connection.connect(self.path or (LOOPBACK, self.port))
            connection.sendall(request)
            response = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        head, _, body = response.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        return status, json.loads(body) if b"application/json" in head else None


def build_environment(redis_url: str, storage: Storage, bucket_name: str) -> dict[str, str]:
    """Return the environment of a gateway over the tests' servers, without other settings of this machine."""
    plain = copy_environment()
    return {
        **plain,
        "MASKMILL_REDIS_URL": redis_url,
        "MASKMILL_STORAGE_ENDPOINT": storage.endpoint,
        "MASKMILL_STORAGE_BUCKET": bucket_name,
        "MASKMILL_STORAGE_ACCESS_KEY": storage.access_key,
        "MASKMILL_STORAGE_SECRET_KEY": storage.secret_key,
    }


def build_get(target: str, *headers: str, version: str = "1.1") -> bytes:
    """Return the bytes of a GET request."""
    lines = [f"GET {target} HTTP/{version}", *headers, "Connection: close", "", ""]
    return "\r\n".join(lines).encode()
