"""The form of a hostile input: a request, or the bytes of one, and the statuses that may answer it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

CLOSED = 0  # in the place of a status: the connection was closed without a response, as some servers do at once
SYNC = "/?threshold=0.5"
JOBS = "/v1/jobs"


@dataclass(frozen=True, slots=True)
class HostileInput:
    """One request.

    statuses: that may answer it; one, unless servers differ in it.
    body: built when it is sent; the table is made without building any.
    raw: the whole request as bytes, instead of all the others.
    """

    name: str
    statuses: frozenset[int]
    method: str = "POST"
    target: str = SYNC
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], bytes] | None = None
    raw: Callable[[], bytes] | None = None


def send_image(name: str, status: int, build: Callable[[], bytes], *others: int) -> HostileInput:
    """Return a synchronous request with an image, so that its status says what the worker found too."""
    return HostileInput(name, frozenset({status, *others}), body=build)


def send_body(
    name: str, status: int, build: Callable[[], bytes], *, content_type: str = "", target: str = JOBS
) -> HostileInput:
    """Return a request with a body."""
    headers = {"Content-Type": content_type} if content_type else {}
    return HostileInput(name, frozenset({status}), target=target, headers=headers, body=build)


def send_bytes(name: str, statuses: set[int], raw: bytes | Callable[[], bytes]) -> HostileInput:
    """Return a request as its bytes."""
    return HostileInput(name, frozenset(statuses), raw=raw if callable(raw) else lambda: raw)
