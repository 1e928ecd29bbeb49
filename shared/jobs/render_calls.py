"""Calls of the renderer: what the gateway asks of it, and the reply, which comes back through Redis.

A call is small; a lost one is not recovered, because its caller asks again.  Identical calls are one flight: the first
is enqueued, the others wait for its reply.  The calls of a tenant are taken in their order, and tenants take turns; a
message only says that there is a call.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final, Self
from uuid import uuid4

import orjson
from pydantic import JsonValue, TypeAdapter

from shared import redis_keys
from shared.errors import MaskmillError, RenderingFailed, build_error
from shared.jobs.outcomes import EnqueueCallOutcome, StartCallOutcome, TakeCallOutcome
from shared.jobs.render_scripts import COUNT, ENQUEUE, FINISH, RENEW, START, TAKE, WITHDRAW
from shared.redis_client import BinaryRedisClient, translate_redis_errors

RENDER_TASK: Final = "maskmill.render"
RENDER_QUEUE: Final = "render"
# For every caller of a flight to read its reply; a reply may have megabytes.
REPLY_SECONDS: Final = 20
ALIVE_SECONDS: Final = 12
ALIVE_INTERVAL_SECONDS: Final = 3.0
# A call that has ended so many processes of renderers, the last one of them alone, is refused until so long after it.
MAX_ATTEMPTS: Final = 2
ATTEMPTS_SECONDS: Final = 600

_WAITING_KEYS: Final = (redis_keys.RENDER_TURNS, redis_keys.RENDER_WAITING_PREFIX)
# The first byte of a reply.
_CONTENT, _ERROR = b"+", b"-"


class RenderKind(StrEnum):
    """What the renderer can do; each has a handler in worker/renderer/."""

    FORMAT = "format"
    RECUT = "recut"


@dataclass(frozen=True, slots=True)
class RenderCall:
    """One thing to do for a job that has succeeded.

    id: of this call; its reply is published under it.
    arguments: what the handler of the kind needs, a small JSON object.
    """

    kind: RenderKind
    tenant: str
    job_id: str
    arguments: Mapping[str, JsonValue]
    id: str = field(default_factory=lambda: uuid4().hex)

    @property
    def digest(self) -> str:
        """SHA-256 of all but the id, in hexadecimal digits: identical calls have one reply."""
        parts = [self.kind, self.tenant, self.job_id, dict(self.arguments)]
        return sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def to_wire(self) -> dict[str, JsonValue]:
        return _CALL.dump_python(self, mode="json")  # type: ignore[no-any-return]

    @classmethod
    def from_wire(cls, wire: Mapping[str, JsonValue]) -> Self:
        """Read a call; members that a newer gateway added are ignored.

        Raises:
            ValueError: it is not a call, or of a kind that this version does not know.
        """
        return _CALL.validate_python(dict(wire))  # type: ignore[return-value]


_CALL = TypeAdapter(RenderCall)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """Whether a call is under way, and the id under which its reply comes: its own, or that of an identical one."""

    outcome: EnqueueCallOutcome
    call_id: str


@dataclass(frozen=True, slots=True)
class Taken:
    """The call whose turn it is, or why there is none."""

    outcome: TakeCallOutcome
    call: RenderCall | None = None


@dataclass(frozen=True, slots=True)
class RendererState:
    """Whether a renderer takes calls, and how many are queued."""

    is_alive: bool
    queued: int


def encode_reply(content: bytes) -> bytes:
    return _CONTENT + content


def encode_error(error: MaskmillError) -> bytes:
    message = str(error).encode("utf-8", "replace").decode()
    return _ERROR + orjson.dumps({"code": error.code, "message": message})


def decode_reply(reply: bytes) -> bytes:
    """Return the content of a reply.

    Raises:
        MaskmillError: the error that the renderer replied with.
    """
    if reply[:1] == _CONTENT:
        return reply[1:]
    try:
        wire = orjson.loads(reply[1:])
        error = build_error(str(wire["code"]), str(wire["message"]))
    except (ValueError, KeyError, TypeError):
        error = RenderingFailed("The reply of the renderer cannot be read.")
    raise error


class RenderCallStore:
    """Calls in Redis.  Thread-safe.  Needs a client that does not decode.  Every method may raise StoreUnavailable."""

    def __init__(self, client: BinaryRedisClient) -> None:
        self._redis = client
        self._enqueue = client.register_script(ENQUEUE)
        self._withdraw = client.register_script(WITHDRAW)
        self._take = client.register_script(TAKE)
        self._count = client.register_script(COUNT)
        self._start = client.register_script(START)
        self._renew = client.register_script(RENEW)
        self._finish = client.register_script(FINISH)

    @translate_redis_errors
    def enqueue(
        self, call: RenderCall, message: str, *, seconds: float, max_calls: int, max_calls_per_tenant: int
    ) -> Enqueued:
        """Enqueue a call unless an identical one is under way; safe to repeat after a lost answer.

        Args:
            message: a message that wakes a renderer.
            seconds: how long its caller waits; a renderer that takes it later drops it.
            max_calls: most calls that may be queued.
            max_calls_per_tenant: of these, those of one tenant.

        Raises:
            StoreFull: Redis is out of memory.
        """
        keys = [redis_keys.render_flight(call.digest), redis_keys.RENDER_TURNS, redis_keys.RENDERER]
        wire, milliseconds = orjson.dumps(call.to_wire()), max(1, int(1000 * seconds))
        outcome, call_id = self._enqueue(
            keys=[*keys, redis_keys.RENDER_WAITING_PREFIX, RENDER_QUEUE, redis_keys.render_waiters(call.digest)],
            args=[call.id, wire, milliseconds, max_calls, call.tenant, max_calls_per_tenant, message],
        )
        return Enqueued(EnqueueCallOutcome(outcome.decode()), call_id.decode())

    @translate_redis_errors
    def withdraw(self, call: RenderCall, call_id: str) -> bool:
        """Stop waiting for a call before its reply; return whether it is dropped, because no other request waits.

        Args:
            call_id: as enqueue() returned it.
        """
        keys = [redis_keys.render_flight(call.digest), redis_keys.render_waiters(call.digest)]
        return bool(self._withdraw(keys=keys, args=[call_id]))

    @translate_redis_errors
    def is_wanted(self, call: RenderCall) -> bool:
        """Tell whether a request still waits for a call that was started."""
        return self._redis.get(redis_keys.render_flight(call.digest)) == call.id.encode()

    @translate_redis_errors
    def take(self, message: str, *, except_tenants: Iterable[str] = ()) -> Taken:
        """Take the call whose turn it is, the oldest one of its tenant; the next turn of that tenant is the last one.

        Args:
            message: takes the place of the one that was received, if all calls that wait are of `except_tenants`.
        """
        keys = [*_WAITING_KEYS, RENDER_QUEUE]
        outcome, wire = self._take(keys=keys, args=[message, *except_tenants])
        if not wire:
            return Taken(TakeCallOutcome(outcome.decode()))
        try:
            return Taken(TakeCallOutcome.TAKEN, RenderCall.from_wire(orjson.loads(wire)))
        except ValueError:
            return Taken(TakeCallOutcome.UNREADABLE)

    @translate_redis_errors
    def start(self, call: RenderCall, *, is_alone: bool = False) -> StartCallOutcome:
        """Begin an attempt at a call, unless no caller waits for it or it has ended too many renderers.

        Identical calls join it while `renew` is called for it.  A suspected one must be alone in its process.
        """
        keys = [redis_keys.render_flight(call.digest), redis_keys.render_attempts(call.digest)]
        outcome = self._start(keys=keys, args=[call.id, ALIVE_SECONDS, MAX_ATTEMPTS, ATTEMPTS_SECONDS, int(is_alone)])
        return StartCallOutcome(outcome.decode())

    @translate_redis_errors
    def renew(self, call: RenderCall) -> None:
        """Say that a call which was started runs on."""
        self._renew(keys=[redis_keys.render_flight(call.digest)], args=[call.id, ALIVE_SECONDS])

    @translate_redis_errors
    def finish(self, call: RenderCall, reply: bytes, *, is_attempt_over: bool = True) -> None:
        """Store the reply of a call and wake its callers.

        Args:
            is_attempt_over: false if this attempt shall count against the next one, because the renderer ends with it.
        """
        keys = [
            redis_keys.render_flight(call.digest),
            redis_keys.render_reply(call.id),
            redis_keys.EVENTS,
            redis_keys.render_attempts(call.digest),
            redis_keys.render_waiters(call.digest),
        ]
        self._finish(keys=keys, args=[call.id, reply, REPLY_SECONDS, int(is_attempt_over)])

    @translate_redis_errors
    def get_reply(self, call_id: str) -> bytes | None:
        return self._redis.get(redis_keys.render_reply(call_id))

    @translate_redis_errors
    def read_state(self) -> RendererState:
        queued = self._count(keys=_WAITING_KEYS)
        return RendererState(bool(self._redis.exists(redis_keys.RENDERER)), queued)

    @translate_redis_errors
    def report_alive(self) -> None:
        """Say that a renderer takes calls; without one, calls are refused at once."""
        self._redis.set(redis_keys.RENDERER, "", ex=ALIVE_SECONDS)


Handle = Callable[[RenderCall], bytes]
"""Does what a call asks for and returns the content of its reply; it raises an error of the tree instead."""
