"""The life of a host process: ready and draining as Celery signals them, and a bound on draining."""

import os
import threading
from collections.abc import Callable
from typing import Any

import structlog
from celery import signals

log = structlog.get_logger()

# For jobs to be returned to their queues at the end of a drain.
GIVE_BACK_SECONDS = 1.5


def follow_celery(
    report_ready: Callable[[bool], object], *, drain_seconds: float, give_back: Callable[[], object]
) -> None:
    """Report when Celery is ready and when it drains, and end the process if draining exceeds its timeout.

    Args:
        give_back: returns the jobs that run to their queues, before the process ends.
    """

    def start_serving(**_: Any) -> None:
        report_ready(True)
        log.info("host_ready")

    def start_draining(**_: Any) -> None:
        # First: a hung engine does not receive the report.
        timer = threading.Timer(drain_seconds, _end, (give_back,))
        timer.daemon = True
        timer.start()
        log.info("host_draining", timeout_seconds=drain_seconds)
        report_ready(False)

    signals.worker_ready.connect(start_serving, weak=False)
    signals.worker_shutting_down.connect(start_draining, weak=False)


def _end(give_back: Callable[[], object]) -> None:
    """Give back the jobs that did not finish, for other workers, and end the process."""
    log.warning("drain_timeout_exceeded")
    # Their leases expire if Redis does not take them.
    timer = threading.Timer(GIVE_BACK_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()
    try:
        give_back()
    except Exception:
        log.exception("jobs_not_given_back")
    os._exit(0)
