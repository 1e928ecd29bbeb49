"""The watchdog of an engine process: ends it when its device hangs or is lost."""

import os
import threading
import time
from collections.abc import Callable

import structlog

from shared.worker_registry import WorkerState
from worker.batching.scheduler import BatchScheduler
from worker.runtime.heartbeat import Heartbeat
from worker.runtime.idle import IdleTrimmer
from worker.runtime.memory import return_free_memory

log = structlog.get_logger()

DEVICE_LOST_EXIT_CODE = 70
WATCH_INTERVAL_SECONDS = 1.0
# So that the heartbeat with the reason reaches Redis.
REPORT_SECONDS = 1.0


def start_watchdog(scheduler: BatchScheduler, heartbeat: Heartbeat) -> None:
    """Watch the device from a thread, and end the process when it hangs or is lost; trim its memory when it is idle.

    Nothing else frees a thread from a kernel that does not return.
    """
    trimmer = IdleTrimmer(lambda: scheduler.batch_count, return_free_memory)
    threading.Thread(
        target=_watch, args=(scheduler, heartbeat, trimmer, os._exit), name="watchdog", daemon=True
    ).start()


def _watch(
    scheduler: BatchScheduler, heartbeat: Heartbeat, trimmer: IdleTrimmer, end_process: Callable[[int], object]
) -> None:
    while scheduler.is_healthy:
        time.sleep(WATCH_INTERVAL_SECONDS)
        trimmer.check()
    if heartbeat.status.state is WorkerState.DRAINING:
        return
    log.critical("device_lost", device=heartbeat.status.device, is_hung=scheduler.is_hung)
    heartbeat.change(WorkerState.SETUP_FAILED, reason="the device is stuck or lost")
    time.sleep(REPORT_SECONDS)
    end_process(DEVICE_LOST_EXIT_CODE)
