"""The identity of a stack: Redis and the bucket belong together, and to no other stack.

Both have the id of the stack, which is never changed.  A store that lost its data gets the id from the other one.  That
Redis lost them, and is not the Redis of a second stack, is seen from the mark in the bucket, which a steward renews: if
it is renewed while Redis has no id, the stack that does so has another Redis.  No clocks are compared.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit
from uuid import uuid4

from shared import redis_keys
from shared.errors import ForeignStack, StackUnconfirmed
from shared.redis_client import RedisClient, translate_redis_errors
from shared.settings import Settings
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.clock import StoreClock
from shared.storage.keys import STACK_OBJECT

RENEWAL_INTERVAL_SECONDS = 5.0
# A mark that is not renewed for so long belongs to a stack without a steward.
LEASE_SECONDS = 15.0

# Also while Redis is out of memory: a process can start then.
_KEEP_FIRST = """#!lua flags=allow-oom
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
"""
_OTHER_BUCKET = (
    "Redis has the data of a stack whose bucket is {location}. Set MASKMILL_REDIS_PREFIX to share this Redis with it; "
    "or, if the bucket was replaced on purpose, delete the key {key} in Redis."
)
_OTHER_REDIS = (
    "The bucket is in use by a stack with another Redis. Set MASKMILL_STORAGE_PREFIX to share this bucket with it; or, "
    "if Redis was replaced on purpose, stop every process that uses the other one."
)


@dataclass(frozen=True, slots=True)
class StackMark:
    """The content of the object `stack`.

    id: of the stack.
    renewal: a random word, changed by the steward at each interval; empty after its orderly end.
    """

    id: str
    renewal: str = ""

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        name, _, renewal = content.decode("ascii", "replace").partition(" ")
        return cls(name, renewal)

    def to_bytes(self) -> bytes:
        return f"{self.id} {self.renewal}".encode()


@dataclass(frozen=True, slots=True)
class _KnownStack:
    """The value in Redis.

    location: of the bucket, as the first process of the stack named it.
    """

    id: str
    location: str


@dataclass(frozen=True, slots=True)
class _Renewal:
    word: str
    seen_at: float


class StackIdentity:
    """Not thread-safe.  Every method may raise StoreUnavailable and StorageUnavailable."""

    def __init__(
        self,
        client: RedisClient,
        bucket: Bucket,
        location: str,
        *,
        now: Callable[[], float] = time.monotonic,
        clock: StoreClock | None = None,
    ) -> None:
        """Take the location of the bucket; it has no credentials, and errors name it.

        Args:
            clock: is set by each mark that renew() finds to be its own; of a steward.
        """
        self._redis = client
        self._bucket = bucket
        self._location = location
        self._now = now
        self._keep_first = client.register_script(_KEEP_FIRST)
        self._confirmed_id = ""
        self._renewal: _Renewal | None = None
        self._clock = clock
        self._written: _Renewal | None = None

    def check(self) -> None:
        """Make sure that both stores have the same id; a store without one gets it.

        The bucket is read first: a steward writes the id to Redis before it renews the mark.

        Raises:
            ForeignStack: a store belongs to another stack.
            StackUnconfirmed: Redis has no id, and it is not known yet whether the mark is renewed; it is known
                after LEASE_SECONDS.
        """
        mark, known = self._read_mark(), self._read_known()
        if mark is None and known:
            # Another process may have written both meanwhile.
            mark = self._read_mark()
            if mark is None and not self._is_ours(known):
                raise self._build_mismatch(known)
        mark = mark or self._create_mark(known.id if known else uuid4().hex)
        if not known:
            self._check_not_renewed(mark)
            known = self._write_id(mark.id)
        if known.id != mark.id:
            raise self._build_mismatch(known)
        self._confirmed_id = mark.id

    def renew(self) -> None:
        """Check, and show that a steward of this stack runs; for stewards.

        Raises:
            ForeignStack: a store belongs to another stack.
            StackUnconfirmed: it is not known yet.
        """
        self.check()
        word = uuid4().hex
        self._write_mark(StackMark(self._confirmed_id, word))
        self._written = _Renewal(word, self._now())
        # Otherwise the mark is read with the next check, if no other steward writes in between.
        if self._clock and not self._clock.is_fresh:
            self._read_mark()

    def release(self) -> None:
        """Show that the steward has ended, so that a new Redis is accepted at once."""
        if self._confirmed_id:
            self._write_mark(StackMark(self._confirmed_id))

    def _is_ours(self, known: _KnownStack) -> bool:
        # A process that has seen the id in this bucket may reach it by another name than the first one.
        return known.id == self._confirmed_id or known.location == self._location

    def _check_not_renewed(self, mark: StackMark) -> None:
        # A process that knows the stack has seen Redis lose its data.
        if not mark.renewal or mark.id == self._confirmed_id:
            return
        if self._renewal is None:
            self._renewal = _Renewal(mark.renewal, self._now())
        if mark.renewal != self._renewal.word:
            raise ForeignStack(_OTHER_REDIS)
        if self._now() - self._renewal.seen_at < LEASE_SECONDS:
            raise StackUnconfirmed()

    def _build_mismatch(self, known: _KnownStack) -> ForeignStack:
        key = f"{self._redis.key_prefix}{redis_keys.STACK}"
        return ForeignStack(_OTHER_BUCKET.format(location=known.location, key=key))

    def _read_mark(self) -> StackMark | None:
        with suppress(NoSuchObject):
            content, stored_at = self._bucket.get_dated(STACK_OBJECT)
            mark = StackMark.from_bytes(content)
            # Of a mark that another steward has written meanwhile it is not known when that was.
            if self._clock and self._written and mark.renewal == self._written.word:
                self._clock.observe(stored_at, at=self._written.seen_at)
            return mark
        return None

    def _create_mark(self, stack_id: str) -> StackMark:
        """Return the mark that is stored: this one, or that of a process which was faster."""
        self._bucket.put_first(STACK_OBJECT, StackMark(stack_id).to_bytes(), content_type="text/plain")
        return StackMark.from_bytes(self._bucket.get(STACK_OBJECT))

    def _write_mark(self, mark: StackMark) -> None:
        self._bucket.put(STACK_OBJECT, mark.to_bytes(), content_type="text/plain")

    @translate_redis_errors
    def _read_known(self) -> _KnownStack | None:
        value = self._redis.get(redis_keys.STACK)
        return _parse_known(value) if value else None

    @translate_redis_errors
    def _write_id(self, stack_id: str) -> _KnownStack:
        return _parse_known(self._keep_first(keys=[redis_keys.STACK], args=[f"{stack_id} {self._location}"]))


def _parse_known(value: str) -> _KnownStack:
    stack_id, _, location = value.partition(" ")
    return _KnownStack(stack_id, location)


def locate_bucket(settings: Settings) -> str:
    """Return the location of the bucket of the settings, without credentials.

    >>> locate_bucket(Settings(storage_endpoint="http://key:secret@10.0.0.7:8333", storage_prefix="roads"))
    '10.0.0.7:8333/maskmill/roads'
    """
    host = urlsplit(settings.storage_endpoint).netloc.rpartition("@")[2]
    return "/".join(filter(None, [host, settings.storage_bucket, settings.storage_prefix]))
