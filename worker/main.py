"""Composition root of the GPU worker:  python -m worker.main

Loads the model first and takes messages only then; on SIGTERM it takes no more, finishes what it has in hand, and ends.
"""

import os
import signal
import socket
import sys
import threading
import time
import uuid
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import structlog
import torch
from celery import signals
from prometheus_client import CollectorRegistry

from shared.broker.app import consume, make_celery
from shared.errors import ModelUnusable, Unavailable
from shared.jobs.messages import queue_name
from shared.jobs.model import Priority
from shared.jobs.payloads import PayloadStore
from shared.jobs.store import JobStore
from shared.logs import configure_logging
from shared.redis_client import connect
from shared.settings import read_settings
from shared.storage.bucket import NoSuchObject, open_bucket
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus, public_id
from worker.batching.policy import BatchLimits
from worker.batching.scheduler import BatchScheduler
from worker.engine.execution_plan import ExecutionOptions
from worker.engine.loader import load_segmenter
from worker.pipeline import task as tasks
from worker.pipeline.job import Services
from worker.pipeline.leases import LeaseKeeper
from worker.runtime.health_server import HealthServer
from worker.runtime.heartbeat import Heartbeat
from worker.runtime.metrics import WorkerMetrics
from worker.segmenter import Segmenter
from worker.settings import WorkerSettings

log = structlog.get_logger()
STUCK_EXIT_CODE = 70
SETUP_FAILED_SECONDS = 5
STOP_SECONDS = 5
# An image costs a CPU nearly the same in a batch of 8 as alone, so more at a time would only wait longer.
CPU_THREADS = 8


def main() -> int:
    """Run a worker until it is told to end; the exit code says whether that was in order."""
    settings = read_settings(WorkerSettings)
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    configure_logging(settings, process="worker", worker=worker_id)
    with ExitStack() as stack:
        return run(settings, worker_id, stack)


def run(settings: WorkerSettings, worker_id: str, stack: ExitStack) -> int:
    """Build everything, serve, and take it down again in the reverse order."""
    signal.signal(signal.SIGTERM, _end_while_loading)
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    status = WorkerStatus(
        worker_id, public_id(settings.model), WorkerState.LOADING, device=settings.device, since=time.time()
    )
    heartbeat = Heartbeat(WorkerRegistry(connect(settings)), status)
    stack.callback(heartbeat.stop)
    heartbeat.start()
    if settings.probe_port:
        probe = HealthServer(
            (settings.probe_host, settings.probe_port),
            registry,
            is_healthy=lambda: heartbeat.status.state is not WorkerState.SETUP_FAILED,
            is_ready=lambda: heartbeat.status.state is WorkerState.READY,
        )
        stack.callback(probe.stop)
        probe.start()
    try:
        engine, segmenter = load(settings, heartbeat, metrics)
    except ModelUnusable as error:
        return _setup_failed(heartbeat, error)
    stack.callback(engine.stop, timeout_seconds=STOP_SECONDS)
    serve(settings, engine, segmenter, heartbeat, metrics, stack)
    return 0


def load(settings: WorkerSettings, heartbeat: Heartbeat, metrics: WorkerMetrics) -> tuple[BatchScheduler, Segmenter]:
    """Load the model and warm it up in the engine's thread.

    Raises:
        ModelUnusable: with one sentence that says why.
    """
    start = time.monotonic()
    log.info("model_loading", model=settings.model)
    with cache_of(settings) as cache:
        segmenter = load_segmenter(
            settings.model,
            public_id=public_id(settings.model),
            device=settings.device,
            cache=Path(cache),
            download=partial(download, settings),
            options=build_execution_options(settings),
        )
    engine = BatchScheduler(
        segmenter, limits_of(settings), observer=metrics, batch_timeout_seconds=settings.batch_timeout_seconds
    )
    try:
        engine.start().result()
    except Exception as error:
        raise ModelUnusable(f"The model {segmenter.model} broke on its first image: {error}") from error
    load_seconds = round(time.monotonic() - start, 2)
    log.info("model_loaded", model=segmenter.model, device=segmenter.device, load_seconds=load_seconds)
    heartbeat.change(
        WorkerState.LOADING, device=segmenter.device, revision=segmenter.revision, load_seconds=load_seconds
    )
    return engine, segmenter


def cache_of(settings: WorkerSettings) -> AbstractContextManager[str]:
    """Return the folder that keeps fetched models, or one for just as long as a model is being loaded."""
    return nullcontext(settings.model_cache) if settings.model_cache else TemporaryDirectory(prefix="maskmill-models-")


def download(settings: WorkerSettings, source: str, into: Path) -> None:
    """Fetch what lies under an `s3://bucket/prefix` of the same object store.

    Raises:
        ModelUnusable: it could not be had.
    """
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    try:
        open_bucket(settings, retries=settings.storage_retries, name=bucket).download(prefix, into)
    except (Unavailable, NoSuchObject) as error:
        raise ModelUnusable(f"The model at {source} could not be fetched: {error}") from error


def build_execution_options(settings: WorkerSettings) -> ExecutionOptions:
    """Return how the model is to be run."""
    return ExecutionOptions(
        forward=settings.forward,
        dtype=settings.dtype,
        is_compiled=settings.compile == "on",
        max_images=settings.max_batch_images,
        band_megabytes=settings.band_megabytes,
    )


def limits_of(settings: WorkerSettings) -> BatchLimits:
    """Return how batches are formed."""
    return BatchLimits(
        max_images=settings.max_batch_images,
        max_pixels=int(1e6 * settings.max_batch_megapixels),
        max_wait_seconds=settings.max_batch_wait_ms / 1000,
    )


def threads_of(settings: WorkerSettings, device: str) -> int:
    """Return how many jobs are taken at a time: on a GPU two batches, of which one is being decoded or stored."""
    return settings.worker_threads or (
        CPU_THREADS if torch.device(device).type == "cpu" else 2 * settings.max_batch_images
    )


def serve(
    settings: WorkerSettings,
    engine: BatchScheduler,
    segmenter: Segmenter,
    heartbeat: Heartbeat,
    metrics: WorkerMetrics,
    stack: ExitStack,
) -> None:
    """Take jobs until SIGTERM."""
    jobs = JobStore(
        connect(settings),
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        result_ttl_seconds=settings.result_ttl_seconds,
    )
    leases = LeaseKeeper(jobs, lease_seconds=settings.lease_seconds)
    services = Services(
        jobs=jobs,
        bucket=open_bucket(settings, retries=settings.storage_retries),
        payloads=PayloadStore(connect(settings, decode=False)),
        leases=leases,
        segmenter=segmenter,
        batches=engine,
        observer=metrics,
        worker_id=heartbeat.status.id,
        max_pixels=int(1e6 * settings.max_decode_megapixels),
    )
    leases.start()
    stack.callback(leases.stop)
    threading.Thread(target=_watch, args=(engine, heartbeat), name="watchdog", daemon=True).start()
    app = make_celery(settings)
    tasks.register(app, services)
    _follow_lifecycle(heartbeat, metrics, settings)
    queues = [queue_name(segmenter.model, priority) for priority in Priority]
    consume(app, queues=queues, threads=threads_of(settings, segmenter.device), name=heartbeat.status.id)


def _follow_lifecycle(heartbeat: Heartbeat, metrics: WorkerMetrics, settings: WorkerSettings) -> None:
    """Report what Celery goes through; and do not let it wait for a job that never ends."""

    def ready(**_: Any) -> None:
        heartbeat.change(WorkerState.READY)
        metrics.set_ready(True)
        log.info("worker_ready", model=heartbeat.status.model)

    def draining(**_: Any) -> None:
        heartbeat.change(WorkerState.DRAINING)
        metrics.set_ready(False)
        log.info("worker_draining", at_most_seconds=settings.drain_seconds)
        overdue = threading.Timer(settings.drain_seconds, _abandon)
        overdue.daemon = True
        overdue.start()

    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(draining, weak=False)


def _abandon() -> None:
    """Leave without the jobs that did not finish: their leases lapse, and others take over."""
    log.warning("drain_time_over")
    os._exit(0)


def _watch(engine: BatchScheduler, heartbeat: Heartbeat) -> None:
    """End the process when the device is stuck: nothing else frees a thread from a kernel that does not return."""
    while engine.is_healthy:
        time.sleep(1)
    if heartbeat.status.state is WorkerState.DRAINING:
        return
    log.critical("device_lost", device=heartbeat.status.device, is_hung=engine.is_hung)
    heartbeat.change(WorkerState.SETUP_FAILED, reason="the device is stuck or lost")
    time.sleep(1)
    os._exit(STUCK_EXIT_CODE)


def _setup_failed(heartbeat: Heartbeat, error: ModelUnusable) -> int:
    """Tell why through the registry for a while, so that whoever waits for this model learns it, then end."""
    log.error("model_unusable", reason=str(error))
    heartbeat.change(WorkerState.SETUP_FAILED, reason=str(error))
    time.sleep(SETUP_FAILED_SECONDS)
    return 1


def _end_while_loading(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
