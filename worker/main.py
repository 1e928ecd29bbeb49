"""Composition root of the worker:  python -m worker.main

Loads the model first and takes messages only then.  On SIGTERM it takes no more, finishes its running jobs, and ends.
"""

import os
import signal
import socket
import sys
import time
import uuid
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import structlog
from prometheus_client import CollectorRegistry

from shared.broker.app import consume, make_celery
from shared.errors import LayoutMismatch, ModelUnusable, Unavailable
from shared.jobs.messages import queue_name
from shared.jobs.model import Priority
from shared.jobs.payloads import PayloadStore
from shared.jobs.store import open_job_store
from shared.layout import check_layouts
from shared.logs import configure_logging
from shared.redis_client import connect
from shared.settings import read_settings
from shared.storage.bucket import NoSuchObject, open_bucket
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus, public_id
from worker.batching.policy import BatchLimits
from worker.batching.scheduler import BatchScheduler
from worker.engine.execution_plan import ExecutionOptions
from worker.engine.loader import load_segmenter
from worker.pipeline.attempt import AttemptRunner
from worker.pipeline.completer import Completer
from worker.pipeline.follow_up import FollowUp
from worker.pipeline.inputs import InputReader
from worker.pipeline.job import JobRunner
from worker.pipeline.leases import LeaseKeeper
from worker.pipeline.rendering import load_renderers
from worker.pipeline.task import register
from worker.runtime.health_server import HealthServer
from worker.runtime.heartbeat import Heartbeat
from worker.runtime.lifecycle import follow_celery, start_watchdog
from worker.runtime.metrics import WorkerMetrics
from worker.segmenter import Segmenter
from worker.settings import WorkerSettings

log = structlog.get_logger()
SETUP_FAILED_SECONDS = 5
STOP_TIMEOUT_SECONDS = 5
# An image costs a CPU nearly the same in a batch of 8 as alone, so more at a time would only wait longer.
CPU_THREADS = 8


def main() -> int:
    """Run a worker until SIGTERM; the exit code tells whether it ended in order."""
    settings = read_settings(WorkerSettings)
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    configure_logging(settings, process="worker", worker=worker_id)
    check_layout(settings)
    with ExitStack() as stack:
        return run(settings, worker_id, stack)


def check_layout(settings: WorkerSettings) -> None:
    """End the process in one line if a store holds data of another layout; one that does not answer is not checked."""
    try:
        check_layouts(settings, open_bucket(settings, retries=settings.storage_retries))
    except LayoutMismatch as error:
        raise SystemExit(f"The worker cannot start: {error}") from None


def run(settings: WorkerSettings, worker_id: str, stack: ExitStack) -> int:
    """Build everything, serve, and take it down in reverse order."""
    signal.signal(signal.SIGTERM, _end_while_loading)
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    heartbeat = start_heartbeat(settings, worker_id, stack)
    if settings.probe_port:
        start_health_server(settings, registry, heartbeat, stack)
    try:
        scheduler, segmenter = load(settings, heartbeat, metrics)
    except ModelUnusable as error:
        return report_setup_failed(heartbeat, error)
    stack.callback(scheduler.stop, timeout_seconds=STOP_TIMEOUT_SECONDS)
    serve(settings, scheduler, segmenter, heartbeat, metrics, stack)
    return 0


def serve(
    settings: WorkerSettings,
    scheduler: BatchScheduler,
    segmenter: Segmenter,
    heartbeat: Heartbeat,
    metrics: WorkerMetrics,
    stack: ExitStack,
) -> None:
    """Run jobs until SIGTERM."""
    worker_id = heartbeat.status.id
    start_watchdog(scheduler, heartbeat)
    follow_celery(heartbeat, metrics, drain_seconds=settings.drain_seconds)
    app = make_celery(settings)
    register(app, build_job_runner(settings, scheduler, segmenter, metrics, worker_id, stack).run)
    queues = [queue_name(segmenter.model, priority) for priority in Priority]
    consume(app, queues=queues, threads=thread_count(settings, segmenter.device), name=worker_id)


def start_heartbeat(settings: WorkerSettings, worker_id: str, stack: ExitStack) -> Heartbeat:
    status = WorkerStatus(
        worker_id, public_id(settings.model), WorkerState.LOADING, device=settings.device, since=time.time()
    )
    heartbeat = Heartbeat(WorkerRegistry(connect(settings)), status)
    stack.callback(heartbeat.stop)
    heartbeat.start()
    return heartbeat


def start_health_server(
    settings: WorkerSettings, registry: CollectorRegistry, heartbeat: Heartbeat, stack: ExitStack
) -> None:
    server = HealthServer(
        (settings.probe_host, settings.probe_port),
        registry,
        is_healthy=lambda: heartbeat.status.state is not WorkerState.SETUP_FAILED,
        is_ready=lambda: heartbeat.status.state is WorkerState.READY,
    )
    stack.callback(server.stop)
    server.start()


def load(settings: WorkerSettings, heartbeat: Heartbeat, metrics: WorkerMetrics) -> tuple[BatchScheduler, Segmenter]:
    """Load the model and warm it up on the device thread.

    Raises:
        ModelUnusable: with one sentence that says why.
    """
    start = time.monotonic()
    log.info("model_loading", model=settings.model)
    with open_model_cache(settings) as cache:
        segmenter = load_segmenter(
            settings.model,
            public_id=public_id(settings.model),
            device=settings.device,
            cache=Path(cache),
            download=partial(download, settings),
            options=build_execution_options(settings),
        )
    scheduler = BatchScheduler(
        segmenter,
        build_batch_limits(settings),
        observer=metrics,
        batch_timeout_seconds=settings.batch_timeout_seconds,
    )
    try:
        scheduler.start().result()
    except Exception as error:
        raise ModelUnusable(f"The model {segmenter.model} broke on its first image: {error}") from error
    load_seconds = round(time.monotonic() - start, 2)
    log.info("model_loaded", model=segmenter.model, device=segmenter.device, load_seconds=load_seconds)
    heartbeat.change(
        WorkerState.LOADING, device=segmenter.device, revision=segmenter.revision, load_seconds=load_seconds
    )
    return scheduler, segmenter


def open_model_cache(settings: WorkerSettings) -> AbstractContextManager[str]:
    """Return the folder for fetched models, or a temporary one for the time of loading."""
    return nullcontext(settings.model_cache) if settings.model_cache else TemporaryDirectory(prefix="maskmill-models-")


def download(settings: WorkerSettings, source: str, into: Path) -> None:
    """Fetch the objects under an `s3://bucket/prefix` of the same object store.

    Raises:
        ModelUnusable: they cannot be fetched.
    """
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    try:
        open_bucket(settings, retries=settings.storage_retries, name=bucket).download(prefix, into)
    except (Unavailable, NoSuchObject) as error:
        raise ModelUnusable(f"The model at {source} could not be fetched: {error}") from error


def build_execution_options(settings: WorkerSettings) -> ExecutionOptions:
    return ExecutionOptions(
        forward=settings.forward,
        dtype=settings.dtype,
        is_compiled=settings.compile == "on",
        max_images=settings.max_batch_images,
        band_megabytes=settings.band_megabytes,
    )


def build_batch_limits(settings: WorkerSettings) -> BatchLimits:
    return BatchLimits(
        max_images=settings.max_batch_images,
        max_pixels=int(1e6 * settings.max_batch_megapixels),
        max_wait_seconds=settings.max_batch_wait_ms / 1000,
    )


def thread_count(settings: WorkerSettings, device: str) -> int:
    """Return how many jobs run at a time: on a GPU two batches, of which one is being decoded or stored."""
    return settings.worker_threads or (CPU_THREADS if device.startswith("cpu") else 2 * settings.max_batch_images)


def build_job_runner(
    settings: WorkerSettings,
    scheduler: BatchScheduler,
    segmenter: Segmenter,
    metrics: WorkerMetrics,
    worker_id: str,
    stack: ExitStack,
) -> JobRunner:
    """Connect the pipeline; its threads are stopped in reverse order, the leases last."""
    jobs = open_job_store(connect(settings), settings)
    bucket = open_bucket(settings, retries=settings.storage_retries)
    payloads = PayloadStore(connect(settings, decode=False))
    leases = LeaseKeeper(jobs, lease_seconds=settings.lease_seconds)
    leases.start()
    stack.callback(leases.stop)
    follow_up = FollowUp()
    stack.callback(follow_up.close)
    attempts = AttemptRunner(
        inputs=InputReader(bucket, payloads),
        segmenter=segmenter,
        batches=scheduler,
        renderers=load_renderers(),
        payloads=payloads,
        bucket=bucket,
        max_pixels=int(1e6 * settings.max_decode_megapixels),
    )
    completer = Completer(jobs, bucket, payloads, metrics)
    return JobRunner(jobs, leases, attempts, completer, follow_up, worker_id)


def report_setup_failed(heartbeat: Heartbeat, error: ModelUnusable) -> int:
    """Report the reason through the worker registry for a while, for callers that wait for the model; then end."""
    log.error("model_unusable", reason=str(error))
    heartbeat.change(WorkerState.SETUP_FAILED, reason=str(error))
    time.sleep(SETUP_FAILED_SECONDS)
    return 1


def _end_while_loading(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
