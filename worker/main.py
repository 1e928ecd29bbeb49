"""Composition root of the worker:  python -m worker.main

This process is the engine: it loads the model and owns the device.  The host processes that it starts (worker/host.py)
take messages and handle images.  To the outside they are one worker: one heartbeat, one health server, one SIGTERM, on
which the hosts take no more messages, finish their jobs, and end.
"""

import gc
import os
import signal
import socket
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import structlog
from prometheus_client import CollectorRegistry

from shared.command_line import check_arguments
from shared.errors import ModelUnusable, Unavailable
from shared.jobs.provenance import Execution
from shared.logs import configure_logging
from shared.memory import FORWARD_KEPT_BYTES, keep_freed_memory, return_free_memory
from shared.readiness import OK, ReadinessChecks, list_store_checks
from shared.redis_client import connect
from shared.setting_names import log_unknown
from shared.settings import read_settings
from shared.storage.bucket import NoSuchObject, check_credentials, open_bucket
from shared.store_check import StoreCheck, check_at_start, open_store_check
from shared.store_health import open_store_health
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus, public_id
from worker.batching.local import LocalBatches
from worker.batching.messages import ModelLoaded
from worker.batching.policy import BatchLimits
from worker.batching.scheduler import BatchScheduler
from worker.engine.agreement.records import find_cache_folder
from worker.engine.execution_plan import ExecutionOptions
from worker.engine.loader import load_segmenter, select_device
from worker.engine.model_files import FILE_NAME
from worker.runtime.health_server import READY_TIMEOUT_SECONDS, HealthServer
from worker.runtime.heartbeat import Heartbeat
from worker.runtime.hosts import HostProcesses, build_host_command
from worker.runtime.metrics import WorkerMetrics
from worker.runtime.sizing import count_cores, count_hosts, count_pool_bytes
from worker.runtime.store_start import end_if_unusable, wait_for_stores
from worker.runtime.watchdog import end_on_host_signal, start_watchdog
from worker.segmenter import Segmenter
from worker.settings import WorkerSettings

log = structlog.get_logger()
SETUP_FAILED_SECONDS = 5
STOP_TIMEOUT_SECONDS = 5
# For hosts whose drain timeout has passed to end by themselves.
HOST_EXIT_SECONDS = 2
# For models that prepare images of any size themselves.
PREPARING_THREADS = 2
HOSTS_FAILING_EXIT_CODE = 71
END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    """Run a worker until SIGTERM; the exit code tells whether it ended in order."""
    # First, because only the memory of a process without other threads can be kept whole.
    keep_freed_memory(FORWARD_KEPT_BYTES, arenas=1)
    end_on_host_signal()
    settings = read_settings(WorkerSettings)
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    configure_logging(settings, process="worker", worker=worker_id)
    log_unknown()
    check_credentials(settings)
    end_on_signal()
    check = open_check(settings)
    with end_if_unusable("worker"):
        check_at_start(check)
    with ExitStack() as stack:
        return run(settings, worker_id, check, stack)


def open_check(settings: WorkerSettings) -> StoreCheck:
    return open_store_check(settings, connect(settings), open_bucket(settings, retries=settings.storage_retries))


def run(settings: WorkerSettings, worker_id: str, check: StoreCheck, stack: ExitStack) -> int:
    """Build everything, serve, and take it down in reverse order."""
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    heartbeat = start_heartbeat(settings, worker_id, stack)
    if settings.probe_port:
        start_health_server(settings, registry, heartbeat, stack)
    try:
        device = select_device(settings.device)
        # Before the model is loaded, so that they are imported meanwhile.
        hosts = start_hosts(settings, device, heartbeat, metrics, stack)
        scheduler, segmenter = load(settings, device, heartbeat, metrics)
    except ModelUnusable as error:
        return report_setup_failed(heartbeat, error)
    stack.callback(scheduler.stop, timeout_seconds=STOP_TIMEOUT_SECONDS)
    serve(settings, scheduler, segmenter, heartbeat, hosts, check, stack)
    return 0


def start_hosts(
    settings: WorkerSettings, device: str, heartbeat: Heartbeat, metrics: WorkerMetrics, stack: ExitStack
) -> HostProcesses:
    """Start the host processes; they wait for the model."""

    def report_ready(is_ready: bool) -> None:
        metrics.set_ready(is_ready)
        if heartbeat.status.state in (WorkerState.LOADING, WorkerState.READY):
            heartbeat.change(WorkerState.READY if is_ready else WorkerState.LOADING)
            log.info("worker_ready" if is_ready else "worker_not_ready", model=heartbeat.status.model)

    hosts = HostProcesses(
        count_hosts(settings, device, count_cores()),
        build_host_command(heartbeat.status.id),
        pool_bytes=count_pool_bytes(settings),
        observer=metrics,
        report_ready=report_ready,
        report_failing=partial(end_failing_worker, heartbeat),
    )
    stack.callback(hosts.kill)
    hosts.start()
    return hosts


def serve(
    settings: WorkerSettings,
    scheduler: BatchScheduler,
    segmenter: Segmenter,
    heartbeat: Heartbeat,
    hosts: HostProcesses,
    check: StoreCheck,
    stack: ExitStack,
) -> None:
    """Run jobs until SIGTERM, then drain the hosts; none is claimed before the stores have been checked."""
    wait_for_stores(check, "worker")
    start_watchdog(scheduler, heartbeat)
    preparing = None if segmenter.resize else stack.enter_context(ThreadPoolExecutor(PREPARING_THREADS))
    model = ModelLoaded(
        segmenter.model,
        segmenter.revision,
        segmenter.device,
        segmenter.resize,
        segmenter.forward_pass.can_scale_decode,
        segmenter.recut_model,
        describe_execution(segmenter),
    )
    hosts.serve(model, LocalBatches(segmenter, scheduler), preparing=preparing)
    wait_for_end()
    heartbeat.change(WorkerState.DRAINING)
    log.info("worker_draining", timeout_seconds=settings.drain_seconds)
    if not hosts.drain(settings.drain_seconds + HOST_EXIT_SECONDS):
        log.warning("hosts_killed")
    # With torch's modules, the last collections of the interpreter would take a second of CPU time, in vain.
    gc.freeze()


def describe_execution(segmenter: Segmenter) -> Execution:
    """Return how a model is run, for the results: the hosts have none of these libraries."""
    names = ("torch", "transformers")
    return Execution(
        segmenter.forward_pass.kind,
        segmenter.forward_pass.dtype,
        segmenter.device,
        {name: version(name) for name in names},
    )


def end_on_signal() -> None:
    """End this process on SIGTERM and SIGINT by SystemExit in its main thread."""
    for number in END_SIGNALS:
        signal.signal(number, _end)


def wait_for_end() -> None:
    """Wait until SIGTERM or SIGINT; a second one has no effect, because draining is bounded."""
    try:
        while True:
            signal.pause()
    except SystemExit:
        for number in END_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def end_failing_worker(heartbeat: Heartbeat) -> None:
    """End this process because its hosts cannot run; a supervisor decides whether it is started again."""
    log.critical("hosts_failing")
    heartbeat.change(WorkerState.SETUP_FAILED, reason="the host processes end soon after their start; see the log")
    time.sleep(SETUP_FAILED_SECONDS)
    os._exit(HOSTS_FAILING_EXIT_CODE)


def start_heartbeat(settings: WorkerSettings, worker_id: str, stack: ExitStack) -> Heartbeat:
    status = WorkerStatus(worker_id, public_id(settings.model), WorkerState.LOADING, device=settings.device)
    heartbeat = Heartbeat(WorkerRegistry(connect(settings)), status)
    stack.callback(heartbeat.stop)
    heartbeat.start()
    return heartbeat


def start_health_server(
    settings: WorkerSettings, registry: CollectorRegistry, heartbeat: Heartbeat, stack: ExitStack
) -> None:
    checks = ReadinessChecks(
        {"worker": partial(describe_state, heartbeat), **list_store_checks(open_store_health(settings))},
        READY_TIMEOUT_SECONDS,
    )
    try:
        server = HealthServer(
            (settings.probe_host, settings.probe_port),
            registry,
            is_healthy=lambda: heartbeat.status.state is not WorkerState.SETUP_FAILED,
            check_readiness=checks.run,
        )
    except OSError as error:
        raise SystemExit(f"The worker cannot start: {error}") from None
    stack.callback(server.stop)
    server.start()


def describe_state(heartbeat: Heartbeat) -> str:
    """Return the verdict of /readyz on a worker: `ok`, or the state in which it takes no jobs."""
    state = heartbeat.status.state
    return OK if state is WorkerState.READY else state


def load(
    settings: WorkerSettings, device: str, heartbeat: Heartbeat, metrics: WorkerMetrics
) -> tuple[BatchScheduler, Segmenter]:
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
            device=device,
            cache=Path(cache),
            download=partial(download, settings),
            options=build_execution_options(settings),
            records=find_cache_folder(settings.model_cache),
        )
    scheduler = start_scheduler(settings, segmenter, metrics)
    # Loading takes more memory than serving.
    return_free_memory()
    load_seconds = round(time.monotonic() - start, 2)
    log.info("model_loaded", model=segmenter.model, device=segmenter.device, load_seconds=load_seconds)
    heartbeat.describe_model(segmenter.facts)
    heartbeat.change(
        WorkerState.LOADING,
        device=segmenter.device,
        revision=segmenter.revision,
        load_seconds=load_seconds,
        forward=segmenter.forward_pass.kind,
        agreement=segmenter.forward_pass.agreement,
    )
    return scheduler, segmenter


def start_scheduler(settings: WorkerSettings, segmenter: Segmenter, metrics: WorkerMetrics) -> BatchScheduler:
    """Start the device thread, and return when the model is warm.

    Raises:
        ModelUnusable: it failed on its first image.
    """
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
    return scheduler


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
        open_bucket(settings, retries=settings.storage_retries, name=bucket).download(prefix, into, FILE_NAME)
    except (Unavailable, NoSuchObject) as error:
        raise ModelUnusable(f"The model at {source} could not be fetched: {error}") from error


def build_execution_options(settings: WorkerSettings) -> ExecutionOptions:
    return ExecutionOptions(
        forward=settings.forward,
        dtype=settings.dtype,
        is_compiled=settings.compile == "on",
        max_images=settings.max_batch_images,
        band_megabytes=settings.band_megabytes,
        max_input_megapixels=settings.max_input_megapixels,
    )


def build_batch_limits(settings: WorkerSettings) -> BatchLimits:
    return BatchLimits(
        max_images=settings.max_batch_images,
        max_pixels=int(1e6 * settings.max_batch_megapixels),
        max_wait_seconds=settings.max_batch_wait_ms / 1000,
        max_interactive_wait_seconds=settings.max_interactive_wait_ms / 1000,
    )


def report_setup_failed(heartbeat: Heartbeat, error: ModelUnusable) -> int:
    """Report the reason through the worker registry for a while, for callers that wait for the model; then end."""
    log.error("model_unusable", reason=str(error))
    heartbeat.change(WorkerState.SETUP_FAILED, reason=str(error))
    time.sleep(SETUP_FAILED_SECONDS)
    return 1


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    check_arguments("worker.main", "Run a worker, which segments images with one device, until SIGTERM.")
    sys.exit(main())
