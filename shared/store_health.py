"""Whether Redis and the bucket can be reached, take writes, and have room.

Nothing runs between two calls.  Each answer is kept for a second or two, so that probes cost little.
"""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from uuid import uuid4

import redis
import structlog

from shared import redis_keys
from shared.errors import StorageUnavailable
from shared.redis_client import RedisClient, connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, NoSuchObject, open_bucket
from shared.storage.keys import STORE_CHECK_PREFIX

log = structlog.get_logger()

# Shorter than the interval of a probe, so that a recovery is seen by the next one.
FRESH_SECONDS = 2.0
# A store that is away is tried again sooner, because work waits for it.
RETRY_SECONDS = 1.0
# In Redis; the key is overwritten by each check.
KEY_SECONDS = 60
# Not empty: SeaweedFS stores an empty object also when it has no space.
CONTENT = b"0123456789"
# Answers of Redis to a write: it cannot persist, or has too few replicas.
_REDIS_REFUSALS = ("MISCONF", "NOREPLICAS")
# Of a store that can be read.  AWS and Ceph have quotas, MinIO answers 507, and SeaweedFS 500 without a reason.
_NO_SPACE = re.compile(
    r"status code: 50[07]\b|QuotaExceeded|StorageFull|InsufficientStorage|no free volumes|no space left", re.IGNORECASE
)


class StoreState(StrEnum):
    """What a store can do.

    OK: it takes writes.  FULL: it can be read, and has no room for more.  READ_ONLY: it can be read, and takes no
    writes for another reason.  UNREACHABLE: it does not answer, or cannot be used at all.
    """

    OK = "ok"
    FULL = "full"
    READ_ONLY = "read_only"
    UNREACHABLE = "unreachable"


class StoreHealth:
    """Thread-safe.  Calls that come together share one check; each state is at most FRESH_SECONDS old."""

    def __init__(self, client: RedisClient, bucket: Bucket, clock: Callable[[], float] = time.monotonic) -> None:
        """Take clients without retries; nothing is sent yet."""
        self._redis = client
        self._bucket = bucket
        # Of this object, so that a deletion that fails leaves one object at most.
        self._key = f"{STORE_CHECK_PREFIX}{uuid4().hex}/health"
        self._redis_state = _CachedState("redis", self._probe_redis, clock)
        self._bucket_state = _CachedState("storage", self._probe_bucket, clock)

    def check_redis(self) -> StoreState:
        """Return whether Redis takes a write that needs memory; it takes at most the timeout of Redis."""
        return self._redis_state.get()

    def check_bucket(self) -> StoreState:
        """Return whether the bucket can be read and takes a small object; it takes at most three storage timeouts."""
        return self._bucket_state.get()

    def _probe_redis(self) -> tuple[StoreState, str]:
        try:
            self._redis.set(redis_keys.STORE_CHECK, "", ex=KEY_SECONDS)
        except redis.RedisError as error:
            return _judge_redis(error), str(error)
        return StoreState.OK, ""

    def _probe_bucket(self) -> tuple[StoreState, str]:
        # First, because SeaweedFS creates a missing bucket for an object.
        try:
            self._bucket.is_empty(STORE_CHECK_PREFIX)
        except (StorageUnavailable, NoSuchObject) as error:
            return StoreState.UNREACHABLE, str(error.__cause__)
        try:
            self._write()
        except (StorageUnavailable, NoSuchObject) as error:
            cause = str(error.__cause__)
            return (StoreState.FULL if _NO_SPACE.search(cause) else StoreState.READ_ONLY), cause
        return StoreState.OK, ""

    def _write(self) -> None:
        """Store an object, and delete it."""
        if not self._bucket.put_first(self._key, CONTENT, content_type="text/plain"):
            # It is left from a check whose deletion failed.
            self._bucket.put(self._key, CONTENT, content_type="text/plain")
        with suppress(StorageUnavailable):
            self._bucket.delete([self._key])


class _CachedState:
    """The state of one store; each change is logged with its cause."""

    def __init__(self, store: str, probe: Callable[[], tuple[StoreState, str]], clock: Callable[[], float]) -> None:
        self._store = store
        self._probe = probe
        self._clock = clock
        self._lock = threading.Lock()
        self._state = StoreState.OK
        self._fresh_until = float("-inf")

    def get(self) -> StoreState:
        with self._lock:
            if self._clock() >= self._fresh_until:
                self._set(*self._probe())
            return self._state

    def _set(self, state: StoreState, cause: str) -> None:
        if state is not self._state:
            log.warning("store_state_changed", store=self._store, state=state, cause=cause.partition("\n")[0])
        self._state = state
        self._fresh_until = self._clock() + (FRESH_SECONDS if state is StoreState.OK else RETRY_SECONDS)


def open_store_health(settings: Settings) -> StoreHealth:
    """Return the health of the stores of the settings, with clients of its own; nothing is sent yet."""
    return StoreHealth(connect(settings), open_bucket(settings))


def _judge_redis(error: redis.RedisError) -> StoreState:
    message = str(error)
    if isinstance(error, redis.OutOfMemoryError) or "No space left" in message:
        return StoreState.FULL
    if isinstance(error, redis.ReadOnlyError) or message.startswith(_REDIS_REFUSALS):
        return StoreState.READ_ONLY
    return StoreState.UNREACHABLE
