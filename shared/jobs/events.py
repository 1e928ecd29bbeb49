"""Waiting for a job without polling: one Redis subscription per process wakes all that wait."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import redis
import structlog

from shared import redis_keys
from shared.redis_client import RedisClient

T = TypeVar("T")
log = structlog.get_logger()

# Pub/sub may lose a message while it reconnects, so every waiter polls as well.
POLL_INTERVAL_SECONDS = 2.0
RECONNECT_SECONDS = 0.5


class JobEvents:
    """Subscribes at the first wait; a fork must happen before that.  Thread-safe."""

    def __init__(self, client: RedisClient) -> None:
        self._redis = client
        self._lock = threading.Lock()
        self._waiters: dict[str, set[Callable[[], object]]] = defaultdict(set)
        self._listener: threading.Thread | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        """End the subscription; threads that still wait continue to poll."""
        self._closed.set()

    def wake_all(self) -> None:
        """Make every waiter poll at once."""
        with self._lock:
            for waiters in self._waiters.values():
                for wake in waiters:
                    wake()

    def wait_for(
        self,
        job_id: str,
        poll: Callable[[], T | None],
        *,
        seconds: float,
        first_poll_seconds: float = 0.0,
        poll_interval_seconds: float = POLL_INTERVAL_SECONDS,
    ) -> T | None:
        """Call poll() at every event of a job, until it returns a value or the timeout is over.

        Args:
            first_poll_seconds: when to poll first if there is no event.  A job that was created just now is still
                queued, and polling takes CPU time from the worker that is to run it.
            poll_interval_seconds: after how long without an event it polls again.
        """
        deadline = time.monotonic() + seconds
        event = threading.Event()
        with self._registered(job_id, event.set):
            event.wait(first_poll_seconds)
            while True:
                event.clear()
                if (found := poll()) is not None:
                    return found
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                event.wait(min(left, poll_interval_seconds))

    def register(self, job_id: str, wake: Callable[[], object]) -> None:
        """Have a function called at every event of a job, on the listener's thread; it neither blocks nor raises."""
        with self._lock:
            self._waiters[job_id].add(wake)
            self._start_listener()

    def unregister(self, job_id: str, wake: Callable[[], object]) -> None:
        with self._lock:
            self._waiters[job_id].discard(wake)
            if not self._waiters[job_id]:
                del self._waiters[job_id]

    @contextmanager
    def _registered(self, job_id: str, wake: Callable[[], object]) -> Iterator[None]:
        self.register(job_id, wake)
        try:
            yield
        finally:
            self.unregister(job_id, wake)

    def _start_listener(self) -> None:
        if self._listener is None:
            self._listener = threading.Thread(target=self._run, name="job-events", daemon=True)
            self._listener.start()

    def _run(self) -> None:
        is_interrupted = False
        while not self._closed.is_set():
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
                    subscription.subscribe(redis_keys.EVENTS)
                    is_interrupted = False
                    # Events may have been missed while there was no subscription.
                    self.wake_all()
                    self._dispatch(subscription)
            except (redis.RedisError, OSError) as error:
                if not is_interrupted:
                    log.warning("job_events_interrupted", error=str(error))
                is_interrupted = True
                self._closed.wait(RECONNECT_SECONDS)

    def _dispatch(self, subscription: Any) -> None:
        while not self._closed.is_set():
            message = subscription.get_message(timeout=POLL_INTERVAL_SECONDS)
            if message is not None:
                self._wake(str(message["data"]))

    def _wake(self, job_id: str) -> None:
        with self._lock:
            for wake in self._waiters.get(job_id, ()):
                wake()
