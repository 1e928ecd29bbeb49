"""The limits of one process's HTTP server, and what the rest of the gateway gives it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from api.server.transfer import MinimumRate
from shared.errors import MaskmillError


class WsgiApp(Protocol):
    """PEP 3333."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any], /) -> Iterable[bytes]: ...


class DropReason(StrEnum):
    """Why a connection was closed before its client was done: the values of a metric's label."""

    HEADER_TIMEOUT = "header_timeout"
    BODY_TIMEOUT = "body_timeout"
    READ_TIMEOUT = "read_timeout"
    LINGER_TIMEOUT = "linger_timeout"
    PEER_LIMIT = "peer_limit"
    CONNECTION_LIMIT = "connection_limit"
    UNREAD_RESPONSES = "unread_responses"


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Durations are in seconds.

    header_seconds: from the first byte of a request, or from the connection if there is none, to the end of the head.
    transfer: of a body, and of a response that the client reads.
    keep_alive_seconds: how long a connection may be idle between requests.
    linger_seconds: how long a client that was answered may take to close, or to send more of a refused body.
    max_buffered_bytes: of bodies, and as many of responses that are not read yet.
    max_connections: in all.
    max_connections_per_peer: without a request that runs.
    """

    header_seconds: float
    transfer: MinimumRate
    keep_alive_seconds: float
    linger_seconds: float
    max_body_bytes: int
    max_buffered_bytes: int
    max_connections: int
    max_connections_per_peer: int


@dataclass(frozen=True, slots=True)
class HttpService:
    """What one process serves.

    app: on the public listeners.
    operations: on the listener for health and metrics.
    refuse: returns the error of a request whose body need not be read, by its Authorization header; or None.
    count_drop: called on the loop's thread.
    begin_drain: called when the process is told to stop: ends the requests that can be answered early.
    end_waits: called shortly before the grace period is over: has the others answered.
    close: called when all requests are answered, or the grace period is over.
    """

    app: WsgiApp
    operations: WsgiApp
    refuse: Callable[[str | None], MaskmillError | None]
    count_drop: Callable[[DropReason], None]
    begin_drain: Callable[[], None]
    end_waits: Callable[[], None]
    close: Callable[[], None]


# Requests for these never wait for a thread that clients can occupy.
LIVENESS_PATH = "/healthz"
READINESS_PATHS = frozenset({"/readyz", "/health"})

# The keys under which the app finds what belongs to a request (api/http/request_body.py).
REFUSAL_KEY = "maskmill.refusal"
RESERVATION_KEY = "maskmill.reservation"
# Under this one the app leaves the stream of its response (api/server/push.py).
STREAM_KEY = "maskmill.stream"
# The prefix of the path that a trusted proxy sent, if it is none (api/http/hosts.py).
REFUSED_PREFIX_KEY = "maskmill.refused_prefix"
