"""The watchdog of an engine process: ends it when its device hangs or is lost, or when its hosts say that it hangs."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable

import structlog

from shared.memory import return_free_memory
from shared.worker_registry import WorkerState
from worker.batching.scheduler import BatchScheduler
from worker.runtime.heartbeat import Heartbeat
from worker.runtime.idle import IdleTrimmer

log = structlog.get_logger()

DEVICE_LOST_EXIT_CODE = 70
# From a host, when this process hangs.
HOST_SIGNAL = signal.SIGUSR2
WATCH_INTERVAL_SECONDS = 1.0
# So that the heartbeat with the reason reaches Redis.
REPORT_SECONDS = 1.0


def end_on_host_signal() -> None:
    """Let HOST_SIGNAL end this process even if its interpreter hangs: the handler is _exit() of the C library.

    In a container the engine may be process 1, which the kernel protects from SIGKILL of its descendants, but not from
    a signal that it handles.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(HOST_SIGNAL, ctypes.cast(libc._exit, ctypes.c_void_p))


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
