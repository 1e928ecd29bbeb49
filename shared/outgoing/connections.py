"""Connections to checked addresses: the network backend of the HTTP client.

A host is resolved once, and the connection is made to the very addresses that were checked, so a name that resolves
to another address a moment later changes nothing.  The client takes name, SNI and certificate from the URL.
"""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Final

import httpcore2
from httpcore2 import SOCKET_OPTION, NetworkBackend, NetworkStream

from shared.errors import UrlRefused, UrlUnreachable
from shared.outgoing.addresses import Address, parse_literal, parse_resolved
from shared.outgoing.policy import OutgoingPolicy

MAX_ADDRESSES: Final = 4
_WRITE_BYTES: Final = 2**14

Resolve = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host as text; raises OSError if there are none."""


def resolve_host(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host in the order of the operating system.

    Raises:
        OSError: the name is unknown, or the resolver does not answer.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for _, _, _, _, address in found]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment by which a whole request must have ended; `at` is of time.monotonic()."""

    at: float

    @classmethod
    def in_seconds(cls, seconds: float) -> "Deadline":
        return cls(time.monotonic() + seconds)

    def get_seconds_left(self) -> float:
        """Return how many seconds are left.

        Raises:
            UrlUnreachable: none.
        """
        seconds = self.at - time.monotonic()
        if seconds <= 0:
            raise UrlUnreachable("The server of the URL took too long.")
        return seconds


class DeadlineStream(NetworkStream):
    """A connection whose operations all end by one deadline, however few bytes each of them moves."""

    def __init__(self, stream: NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.get_seconds_left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITE_BYTES):
            self._stream.write(buffer[start : start + _WRITE_BYTES], self._deadline.get_seconds_left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.get_seconds_left())
        return DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class GuardedBackend(NetworkBackend):
    """Connects to hosts whose addresses a policy allows, for one request."""

    def __init__(self, policy: OutgoingPolicy, resolve: Resolve, deadline: Deadline) -> None:
        self._policy = policy
        self._resolve = resolve
        self._deadline = deadline
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        """Connect to the first address that answers.

        Raises:
            UrlRefused: one of the addresses is not allowed; nothing was connected to.
            UrlUnreachable: the host is unknown, or none of its addresses answers in time.
        """
        addresses = self._find_addresses(host, port)
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            # An address that never answers leaves time for the others.
            seconds = self._deadline.get_seconds_left() / left
            try:
                stream = self._sockets.connect_tcp(str(address), port, seconds, None, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
            return DeadlineStream(stream, self._deadline)
        raise UrlUnreachable("The server of the URL does not answer.")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[SOCKET_OPTION] | None = None
    ) -> NetworkStream:
        raise UrlRefused("The URL names a socket of this machine.")

    def _find_addresses(self, host: str, port: int) -> list[Address]:
        literal = parse_literal(host)
        found = [literal] if literal else _read_addresses(self._look_up(host, port))
        if not all(self._policy.allows_address(host, address) for address in found):
            raise UrlRefused("The URL, or one that it redirects to, leads to an address that is not public.")
        return found[:MAX_ADDRESSES]

    def _look_up(self, host: str, port: int) -> Sequence[str]:
        """Resolve on a thread of its own, because the resolver of the operating system has no deadline."""
        answers: queue.SimpleQueue[Sequence[str] | None] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                answers.put(self._resolve(host, port))
            except (OSError, UnicodeError):
                answers.put(None)

        threading.Thread(target=look_up, name="resolve", daemon=True).start()
        try:
            addresses = answers.get(timeout=self._deadline.get_seconds_left())
        except queue.Empty:
            raise UrlUnreachable("The name of the URL's host could not be resolved in time.") from None
        if not addresses:
            raise UrlUnreachable("The name of the URL's host is unknown.")
        return addresses


def _read_addresses(texts: Sequence[str]) -> list[Address]:
    try:
        return list(dict.fromkeys(map(parse_resolved, texts)))
    except ValueError:
        raise UrlUnreachable("The name of the URL's host could not be resolved.") from None
