"""The checks behind /readyz: all at once, within a timeout, and shared by requests that come together."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

# Short compared with the interval of any probe; a flood of requests asks the stores five times a second.
FRESH_SECONDS = 0.2
OK = "ok"


class HealthChecks:
    """Checks raise Unavailable when the store that they are named for is unavailable."""

    def __init__(
        self,
        checks: Mapping[str, Callable[[], object]],
        timeout_seconds: float,
        *,
        then: Mapping[str, Callable[[], object]] | None = None,
    ) -> None:
        """`then` has checks that need every store: they are made once all others have passed."""
        self._checks = checks
        self._then = then or {}
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._verdicts: dict[str, str] = {}
        self._fresh_until = 0.0

    def run(self) -> dict[str, str]:
        """Return the verdict of each check, `ok` or the reason, at most FRESH_SECONDS old."""
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._verdicts = self._run_checks()
                self._fresh_until = time.monotonic() + FRESH_SECONDS
            return self._verdicts

    def _run_checks(self) -> dict[str, str]:
        verdicts = _run_all(self._checks, self._timeout_seconds)
        if any(verdict != OK for verdict in verdicts.values()):
            return verdicts
        return verdicts | _run_all(self._then, self._timeout_seconds)


def _run_all(checks: Mapping[str, Callable[[], object]], timeout_seconds: float) -> dict[str, str]:
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
        return "does not answer"
    error = future.exception()
    return OK if error is None else str(error)
