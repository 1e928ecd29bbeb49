"""The checks behind /readyz: all at once, within a timeout, and shared by requests that come together."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum

from shared.store_health import StoreHealth, StoreState

# Short compared with the interval of any probe; a flood of requests makes the checks five times a second.
FRESH_SECONDS = 0.2
OK = "ok"
# The verdict on a steward or a renderer: neither is needed for results to be read.
MISSING = "missing"
_DEGRADED = frozenset[str]({StoreState.FULL, StoreState.READ_ONLY, MISSING})

Check = Callable[[], object]
"""Returns a word, such as a StoreState; None for `ok`.  It may raise Unavailable, whose text is the verdict then."""


class ReadyStatus(StrEnum):
    """Whether all works (ok), results can be read but not all else works (degraded), or nothing can be served."""

    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Readiness:
    """The verdict of each check: `ok`, the state of a store, `missing`, or the reason why nothing can be served."""

    checks: Mapping[str, str]

    @property
    def status(self) -> ReadyStatus:
        wrong = {verdict for verdict in self.checks.values() if verdict != OK}
        if not wrong:
            return ReadyStatus.OK
        return ReadyStatus.DEGRADED if wrong <= _DEGRADED else ReadyStatus.UNAVAILABLE


class ReadinessChecks:
    """Thread-safe."""

    def __init__(
        self, checks: Mapping[str, Check], timeout_seconds: float, *, then: Mapping[str, Check] | None = None
    ) -> None:
        """`then` has checks that need every store: they are made if the others find each of them in reach."""
        self._checks = checks
        self._then = then or {}
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._readiness = Readiness({})
        self._fresh_until = 0.0

    def run(self) -> Readiness:
        """Return what the checks found, at most FRESH_SECONDS ago; a check that takes too long is `unreachable`."""
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._readiness = self._run_checks()
                self._fresh_until = time.monotonic() + FRESH_SECONDS
            return self._readiness

    def _run_checks(self) -> Readiness:
        found = Readiness(_run_all(self._checks, self._timeout_seconds))
        if found.status is ReadyStatus.UNAVAILABLE or not self._then:
            return found
        return Readiness({**found.checks, **_run_all(self._then, self._timeout_seconds)})


def list_store_checks(health: StoreHealth) -> dict[str, Check]:
    """Return the checks of both stores, by their names in /readyz."""
    return {"redis": health.check_redis, "storage": health.check_bucket}


def _run_all(checks: Mapping[str, Check], timeout_seconds: float) -> dict[str, str]:
    pool = ThreadPoolExecutor(max_workers=max(1, len(checks)), thread_name_prefix="ready")
    try:
        running = {name: pool.submit(check) for name, check in checks.items()}
        wait(running.values(), timeout=timeout_seconds)
        return {name: _get_verdict(future) for name, future in running.items()}
    finally:
        # A check that hangs ends by its own timeout; this response does not wait for it.
        pool.shutdown(wait=False, cancel_futures=True)


def _get_verdict(future: "Future[object]") -> str:
    if not future.done():
        return StoreState.UNREACHABLE
    error = future.exception()
    if error is not None:
        return str(error)
    return OK if future.result() is None else str(future.result())
