"""The heartbeat: reports a worker's status to the worker registry at a fixed interval and at each change."""

import threading
import time
from dataclasses import replace
from typing import Any

import structlog

from shared.errors import Unavailable
from shared.worker_registry import HEARTBEAT_INTERVAL_SECONDS, ModelFacts, WorkerRegistry, WorkerState, WorkerStatus

log = structlog.get_logger()

# After a heartbeat that failed: without one, the gateway knows no worker.
RETRY_SECONDS = 1.0


class Heartbeat:
    """Reports on a thread of its own.  Started before the model is loaded, so that a loading model is listed."""

    def __init__(self, registry: WorkerRegistry, status: WorkerStatus) -> None:
        self._registry = registry
        self._status = status
        self._facts: ModelFacts | None = None
        self._entered_at = time.monotonic()
        self._changed = threading.Event()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    @property
    def status(self) -> WorkerStatus:
        return self._status

    def start(self) -> None:
        self._thread.start()

    def describe_model(self, facts: ModelFacts) -> None:
        """Report the facts of the loaded model too, from the next heartbeat on."""
        self._facts = facts

    def change(self, state: WorkerState, **fields: Any) -> None:
        """Set the state and further fields of the status, and report it at once."""
        if state is not self._status.state:
            self._entered_at = time.monotonic()
        self._status = replace(self._status, state=state, **fields)
        self._changed.set()

    def stop(self) -> None:
        """Remove the worker from the registry and end the thread."""
        self._is_stopped = True
        self._changed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_stopped:
            is_reported = self._report()
            self._changed.wait(HEARTBEAT_INTERVAL_SECONDS if is_reported else RETRY_SECONDS)
            self._changed.clear()
        self._deregister()

    def _report(self) -> bool:
        try:
            since = self._registry.clock.to_unix(self._entered_at)
            self._registry.report(replace(self._status, since=since), self._facts)
        except Unavailable as error:
            log.warning("heartbeat_failed", error=str(error))
            return False
        return True

    def _deregister(self) -> None:
        try:
            self._registry.deregister(self._status.id)
        except Unavailable as error:
            log.warning("deregistration_failed", error=str(error))
