"""The life of a worker process: ready and draining as Celery signals them, a bound on draining, and the watchdog."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from celery import signals

from shared.worker_registry import WorkerState
from worker.batching.scheduler import BatchScheduler
from worker.runtime.heartbeat import Heartbeat
from worker.runtime.metrics import WorkerMetrics

log = structlog.get_logger()

DEVICE_LOST_EXIT_CODE = 70
WATCH_INTERVAL_SECONDS = 1.0
# So that the heartbeat with the reason reaches Redis.
REPORT_SECONDS = 1.0


def follow_celery(heartbeat: Heartbeat, metrics: WorkerMetrics, *, drain_seconds: float) -> None:
    """Report when Celery is ready and when it drains, and end the process if draining exceeds its timeout."""

    def report_ready(**_: Any) -> None:
        heartbeat.change(WorkerState.READY)
        metrics.set_ready(True)
        log.info("worker_ready", model=heartbeat.status.model)

    def report_draining(**_: Any) -> None:
        heartbeat.change(WorkerState.DRAINING)
        metrics.set_ready(False)
        log.info("worker_draining", timeout_seconds=drain_seconds)
        timer = threading.Timer(drain_seconds, _abandon)
        timer.daemon = True
        timer.start()

    signals.worker_ready.connect(report_ready, weak=False)
    signals.worker_shutting_down.connect(report_draining, weak=False)


def start_watchdog(scheduler: BatchScheduler, heartbeat: Heartbeat) -> None:
    """Watch the device from a thread, and end the process when it hangs or is lost.

    Nothing else frees a thread from a kernel that does not return.
    """
    threading.Thread(target=_watch, args=(scheduler, heartbeat, os._exit), name="watchdog", daemon=True).start()


def _watch(scheduler: BatchScheduler, heartbeat: Heartbeat, end_process: Callable[[int], object]) -> None:
    while scheduler.is_healthy:
        time.sleep(WATCH_INTERVAL_SECONDS)
    if heartbeat.status.state is WorkerState.DRAINING:
        return
    log.critical("device_lost", device=heartbeat.status.device, is_hung=scheduler.is_hung)
    heartbeat.change(WorkerState.SETUP_FAILED, reason="the device is stuck or lost")
    time.sleep(REPORT_SECONDS)
    end_process(DEVICE_LOST_EXIT_CODE)


def _abandon() -> None:
    """End the process without the jobs that did not finish: their leases expire, and other workers claim them."""
    log.warning("drain_timeout_exceeded")
    os._exit(0)
