"""Waiting for a job without asking for it again and again: one subscription a process wakes every thread that waits."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import redis
import structlog

from shared.jobs.store import EVENTS
from shared.redis_client import RedisClient

T = TypeVar("T")
log = structlog.get_logger()

# Pub/sub may lose a message while it reconnects, so every waiter also looks by itself, this often.
LOOK_AGAIN_SECONDS = 2.0


class JobEvents:
    """Listens from the first wait on; a fork must happen before that.  Thread-safe."""

    def __init__(self, client: RedisClient) -> None:
        self._redis = client
        self._lock = threading.Lock()
        self._waiters: dict[str, set[threading.Event]] = defaultdict(set)
        self._listener: threading.Thread | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        """Stop listening; whoever still waits looks by himself."""
        self._closed.set()

    def wait_until(
        self, job_id: str, look: Callable[[], T | None], *, seconds: float, first_look_seconds: float = 0.0
    ) -> T | None:
        """Call look() whenever something happened to the job, until it returns something or the time is over.

        Args:
            first_look_seconds: when to look if nothing happens; a job that was only just handed in has no news yet, and
                whoever asks takes time from those who are to carry it.
        """
        deadline = time.monotonic() + seconds
        with self._waiting(job_id) as event:
            event.wait(first_look_seconds)
            while True:
                event.clear()
                if (found := look()) is not None:
                    return found
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                event.wait(min(left, LOOK_AGAIN_SECONDS))

    @contextmanager
    def _waiting(self, job_id: str) -> Iterator[threading.Event]:
        event = threading.Event()
        with self._lock:
            self._waiters[job_id].add(event)
            self._listen()
        try:
            yield event
        finally:
            with self._lock:
                self._waiters[job_id].discard(event)
                if not self._waiters[job_id]:
                    del self._waiters[job_id]

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = threading.Thread(target=self._run, name="job-events", daemon=True)
            self._listener.start()

    def _run(self) -> None:
        interrupted = False
        while not self._closed.is_set():
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
                    subscription.subscribe(EVENTS)
                    interrupted = False
                    self._wake_all()
                    self._pass_on(subscription)
            except (redis.RedisError, OSError) as error:
                if not interrupted:
                    log.warning("job_events_interrupted", error=str(error))
                interrupted = True
                self._closed.wait(0.5)

    def _pass_on(self, subscription: Any) -> None:
        while not self._closed.is_set():
            message = subscription.get_message(timeout=LOOK_AGAIN_SECONDS)
            if message is not None:
                self._wake(str(message["data"]))

    def _wake(self, job_id: str) -> None:
        with self._lock:
            for event in self._waiters.get(job_id, ()):
                event.set()

    def _wake_all(self) -> None:
        """Whatever happened while nobody listened is found by looking."""
        with self._lock:
            for events in self._waiters.values():
                for event in events:
                    event.set()
