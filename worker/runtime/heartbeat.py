"""The worker's heartbeat: who it is, what it serves and in which state it is, written to Redis every few seconds."""

import threading
import time
from dataclasses import replace
from typing import Any

import structlog

from shared.errors import Unavailable
from shared.worker_registry import HEARTBEAT_SECONDS, WorkerRegistry, WorkerState, WorkerStatus

log = structlog.get_logger()


class Heartbeat:
    """Reports from the moment it is started, so that a model that is still loading is already known."""

    def __init__(self, registry: WorkerRegistry, status: WorkerStatus) -> None:
        self._catalogue = registry
        self._status = status
        self._changed = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    @property
    def status(self) -> WorkerStatus:
        return self._status

    def start(self) -> None:
        self._thread.start()

    def change(self, state: WorkerState, **facts: Any) -> None:
        """Enter a state, and report it at once."""
        since = self._status.since if state is self._status.state else time.time()
        self._status = replace(self._status, state=state, since=since, **facts)
        self._changed.set()

    def stop(self) -> None:
        """Withdraw the worker from the registry."""
        self._stopped = True
        self._changed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped:
            self._report()
            self._changed.wait(HEARTBEAT_SECONDS)
            self._changed.clear()
        self._leave()

    def _report(self) -> None:
        try:
            self._catalogue.report(self._status)
        except Unavailable as error:
            log.warning("heartbeat_not_written", error=str(error))

    def _leave(self) -> None:
        try:
            self._catalogue.leave(self._status.id)
        except Unavailable as error:
            log.warning("heartbeat_not_withdrawn", error=str(error))
