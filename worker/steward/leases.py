"""Leases of the duties in Redis, so that two stewards never run the same duty at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import structlog

from shared import redis_keys
from shared.errors import DutyLeaseLost, Unavailable
from shared.redis_client import RedisClient, redis_errors

log = structlog.get_logger()

# A steward that dies in a duty keeps others from it for so long.
LEASE_SECONDS = 10.0

# Takes a lease that is free, and renews one that its token has; 0 if another token has it.  Also while Redis is out of
# memory: duties free it.
_TAKE = """#!lua flags=allow-oom
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


class DutyLeases:
    """Thread-safe.  Between the runs of a duty its lease is free, so an idle steward renews none."""

    def __init__(self, client: RedisClient, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._take = client.register_script(_TAKE)
        self._release = client.register_script(_RELEASE)
        self._lease_seconds = lease_seconds
        self._lost: dict[str, threading.Event] = {}

    @contextmanager
    def hold(self, duty: str) -> Iterator[bool]:
        """Hold the lease of a duty while the block runs, and renew it; yield False if another steward holds it.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        token = uuid4().hex
        if not self._try_take(duty, token):
            yield False
            return
        ended = threading.Event()
        self._lost[duty] = lost = threading.Event()
        renewal = threading.Thread(target=self._renew, args=(duty, token, ended, lost), daemon=True)
        renewal.start()
        try:
            yield True
        finally:
            ended.set()
            renewal.join()
            with suppress(Unavailable), redis_errors():
                self._release(keys=[redis_keys.duty_lease(duty)], args=[token])

    def check(self, duty: str) -> None:
        """Raise DutyLeaseLost if another steward took over the duty that this one runs; for long duties."""
        if self._lost[duty].is_set():
            raise DutyLeaseLost(f"Another steward has taken over the duty {duty}.")

    def _try_take(self, duty: str, token: str) -> bool:
        with redis_errors():
            return bool(self._take(keys=[redis_keys.duty_lease(duty)], args=[token, int(1000 * self._lease_seconds)]))

    def _renew(self, duty: str, token: str, ended: threading.Event, lost: threading.Event) -> None:
        while not ended.wait(self._lease_seconds / 3):
            try:
                if not self._try_take(duty, token):
                    log.warning("duty_lease_lost", duty=duty)
                    lost.set()
                    return
            except Unavailable as error:
                log.warning("duty_lease_not_renewed", duty=duty, reason=str(error))
