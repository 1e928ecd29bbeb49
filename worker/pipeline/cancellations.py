"""Tells a host of jobs that were canceled or purged while they run, so that it need not wait for the next renewal.

Publication is not reliable; a message that is lost is made up for by the renewal of the lease.
"""

import threading
from collections.abc import Callable
from typing import Any

import redis
import structlog

from shared import redis_keys
from shared.redis_client import RedisClient

log = structlog.get_logger()

POLL_SECONDS = 1.0
RECONNECT_SECONDS = 1.0


class CancellationListener:
    """Calls a function, on a thread of its own, with the id of each job that was canceled or purged while it ran."""

    def __init__(self, client: RedisClient, on_canceled: Callable[[str], object]) -> None:
        self._redis = client
        self._on_canceled = on_canceled
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cancellations", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread at its next poll, without waiting for it."""
        self._stopped.set()

    def _run(self) -> None:
        is_interrupted = False
        while not self._stopped.is_set():
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
                    subscription.subscribe(redis_keys.CANCELED)
                    is_interrupted = False
                    self._receive(subscription)
            except (redis.RedisError, OSError) as error:
                if not is_interrupted:
                    log.warning("cancellations_interrupted", error=str(error))
                is_interrupted = True
                self._stopped.wait(RECONNECT_SECONDS)

    def _receive(self, subscription: Any) -> None:
        while not self._stopped.is_set():
            message = subscription.get_message(timeout=POLL_SECONDS)
            if message is not None:
                self._on_canceled(str(message["data"]))
