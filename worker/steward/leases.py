"""Leases of the duties in Redis, so that two stewards never run the same duty at once."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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

    def __init__(
        self,
        client: RedisClient,
        *,
        lease_seconds: float = LEASE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._take = client.register_script(_TAKE)
        self._release = client.register_script(_RELEASE)
        self._lease_seconds = lease_seconds
        self._monotonic = monotonic
        self._held: dict[str, _HeldLease] = {}
        self._given_up = threading.Event()

    @contextmanager
    def hold(self, duty: str) -> Iterator[bool]:
        """Hold the lease of a duty while the block runs, and renew it; yield False if another steward holds it.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        lease = _HeldLease(uuid4().hex, self._monotonic())
        if not self._try_take(duty, lease):
            yield False
            return
        ended = threading.Event()
        self._held[duty] = lease
        renewal = threading.Thread(target=self._renew, args=(duty, lease, ended), daemon=True)
        renewal.start()
        try:
            yield True
        finally:
            ended.set()
            renewal.join()
            with suppress(Unavailable), redis_errors():
                self._release(keys=[redis_keys.duty_lease(duty)], args=[lease.token])

    def check(self, duty: str) -> None:
        """Raise DutyLeaseLost unless this steward still holds the lease of the duty that it runs; for long duties.

        A lease that could not be renewed in time is lost too, as after a pause of this process.
        """
        if self._given_up.is_set():
            raise DutyLeaseLost("This steward ends.")
        if self._monotonic() >= self._held[duty].ends_at:
            raise DutyLeaseLost(f"Another steward may have taken over the duty {duty}.")

    def give_up(self) -> None:
        """Interrupt the duties that check their leases, because this steward ends."""
        self._given_up.set()

    def _try_take(self, duty: str, lease: "_HeldLease") -> bool:
        sent_at = self._monotonic()
        with redis_errors():
            is_taken = self._take(
                keys=[redis_keys.duty_lease(duty)], args=[lease.token, int(1000 * self._lease_seconds)]
            )
        lease.ends_at = sent_at + self._lease_seconds if is_taken else sent_at
        return bool(is_taken)

    def _renew(self, duty: str, lease: "_HeldLease", ended: threading.Event) -> None:
        while not ended.wait(self._lease_seconds / 3):
            try:
                if not self._try_take(duty, lease):
                    log.warning("duty_lease_lost", duty=duty)
                    return
            except Unavailable as error:
                log.warning("duty_lease_not_renewed", duty=duty, reason=str(error))


@dataclass(slots=True)
class _HeldLease:
    """ends_at: by time.monotonic(), at the latest; not later than in Redis."""

    token: str
    ends_at: float
