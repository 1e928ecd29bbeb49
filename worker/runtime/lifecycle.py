"""The life of a host process: ready and draining as Celery signals them, and a bound on draining."""

import os
import threading
from collections.abc import Callable
from typing import Any

import structlog
from celery import signals

log = structlog.get_logger()


def follow_celery(report_ready: Callable[[bool], object], *, drain_seconds: float) -> None:
    """Report when Celery is ready and when it drains, and end the process if draining exceeds its timeout."""

    def start_serving(**_: Any) -> None:
        report_ready(True)
        log.info("host_ready")

    def start_draining(**_: Any) -> None:
        # First: a hung engine does not receive the report.
        timer = threading.Timer(drain_seconds, _abandon)
        timer.daemon = True
        timer.start()
        log.info("host_draining", timeout_seconds=drain_seconds)
        report_ready(False)

    signals.worker_ready.connect(start_serving, weak=False)
    signals.worker_shutting_down.connect(start_draining, weak=False)


def _abandon() -> None:
    """End the process without the jobs that did not finish: their leases expire, and other workers claim them."""
    log.warning("drain_timeout_exceeded")
    os._exit(0)
