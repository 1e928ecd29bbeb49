"""Composition root of the renderer:  python -m worker.renderer

It takes calls from the gateway through the queue `render`, on a few threads of one process.  No torch here: what needs
it, imports it at its first call.
"""

import signal
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from types import FrameType

import structlog
from celery import Celery
from prometheus_client import CollectorRegistry
from pydantic import JsonValue

from shared.broker.app import make_celery, run_threads
from shared.errors import Unavailable
from shared.jobs.render_calls import (
    ALIVE_INTERVAL_SECONDS,
    RENDER_QUEUE,
    RENDER_TASK,
    Handle,
    RenderCallStore,
    RenderKind,
)
from shared.jobs.store import open_job_store
from shared.logs import configure_logging
from shared.memory import HOST_MAPPED_BYTES, limit_kept_memory, return_free_memory
from shared.readiness import OK, ReadinessChecks, list_store_checks
from shared.redis_client import connect
from shared.setting_names import log_unknown
from shared.settings import read_settings
from shared.storage.bucket import Bucket, check_credentials, open_bucket
from shared.store_check import check_at_start, open_store_check
from shared.store_health import open_store_health
from worker.pipeline.rendering import load_renderers
from worker.renderer.calls import CallRunner
from worker.renderer.formats import FormatHandler
from worker.renderer.logits import RecentLogits
from worker.renderer.metrics import RendererMetrics
from worker.renderer.photos import Photos
from worker.renderer.recut import RecutHandler, Recutter
from worker.renderer.running import RunningCalls
from worker.renderer.turns import Turns
from worker.renderer.watchdog import start_watchdog
from worker.runtime.health_server import READY_TIMEOUT_SECONDS, HealthServer
from worker.runtime.idle import IdleTrimmer
from worker.runtime.lifecycle import follow_celery
from worker.runtime.sizing import count_cores
from worker.runtime.store_start import end_if_unusable, wait_for_stores
from worker.settings import RendererSettings

log = structlog.get_logger()

NAME = "renderer"
# Rendering keeps a core busy, and more at a time take memory for as many label maps.
MAX_DEFAULT_THREADS = 4
NOT_READY = "not_ready"
END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    """Run a renderer until SIGTERM; calls that run then are completed."""
    limit_kept_memory(mapped_bytes=HOST_MAPPED_BYTES)
    settings = read_settings(RendererSettings)
    configure_logging(settings, process=NAME)
    log_unknown()
    check_credentials(settings)
    for number in END_SIGNALS:
        signal.signal(number, _end)
    check = open_store_check(settings, connect(settings), open_bucket(settings, retries=settings.storage_retries))
    with end_if_unusable(NAME):
        check_at_start(check)
    with ExitStack() as stack:
        wait_for_stores(check, NAME)
        bucket = open_bucket(settings, retries=settings.storage_retries)
        logits = RecentLogits(bucket)
        serve(settings, build_handlers(settings, bucket, logits, stack), stack, forget=logits.clear)
    return 0


def serve(
    settings: RendererSettings,
    handlers: Mapping[RenderKind, Handle],
    stack: ExitStack,
    *,
    forget: Callable[[], None] = lambda: None,
) -> None:
    """Take calls until SIGTERM.

    Args:
        forget: frees what is kept for the next calls; called when there have been none for a while.
    """

    def trim() -> None:
        forget()
        return_free_memory()

    registry = CollectorRegistry()
    metrics = RendererMetrics(registry)
    calls = RenderCallStore(connect(settings, decode=False))
    running = RunningCalls(calls)
    turns = Turns(calls, count_threads(settings))
    runner = CallRunner(calls, handlers, metrics, running, turns, max_reply_bytes=settings.max_render_reply_bytes)
    presence = Presence(calls, running, metrics, IdleTrimmer(lambda: running.work_count, trim))
    stack.callback(presence.stop)
    if settings.probe_port:
        start_health_server(settings, registry, presence, stack)
    follow_celery(presence.set_ready, drain_seconds=settings.drain_seconds, give_back=running.give_up)
    start_watchdog(running, settings.render_seconds)
    app = make_celery(settings)
    register(app, runner)
    run_threads(
        app,
        queues=[RENDER_QUEUE],
        thread_count=count_threads(settings),
        name=f"{NAME}-{socket.gethostname()}-{uuid.uuid4().hex[:12]}",
    )


def build_handlers(
    settings: RendererSettings, bucket: Bucket, logits: RecentLogits, stack: ExitStack
) -> Mapping[RenderKind, Handle]:
    """Return the handler of each kind of call; the resources that they open are closed with the stack."""
    renderers = load_renderers()
    photos = Photos(bucket, settings, thread_count=count_threads(settings), stack=stack)
    formats = FormatHandler(bucket, renderers, photos.load, settings.max_derived_files)
    recutter = Recutter(threads=settings.recut_threads or min(MAX_DEFAULT_THREADS, count_cores()))
    jobs = open_job_store(connect(settings), settings)
    calls = RenderCallStore(connect(settings, decode=False))
    return {
        RenderKind.FORMAT: formats.handle,
        RenderKind.RECUT: RecutHandler(jobs, bucket, renderers, photos.load, logits.load, calls.is_wanted, recutter),
    }


def count_threads(settings: RendererSettings) -> int:
    # The last one is for the calls of a second tenant.
    return settings.renderer_threads or min(MAX_DEFAULT_THREADS, count_cores()) + 1


def register(app: Celery, runner: CallRunner) -> None:
    """Register the task that runs a call; its message says only that there is one."""

    @app.task(name=RENDER_TASK)  # type: ignore[untyped-decorator]
    def render(_message: dict[str, JsonValue]) -> None:
        runner.run()


class Presence:
    """Tells gateways that this renderer takes calls, at a fixed interval, and trims its memory when it is idle."""

    def __init__(
        self, calls: RenderCallStore, running: RunningCalls, metrics: RendererMetrics, trimmer: IdleTrimmer
    ) -> None:
        self._calls = calls
        self._running = running
        self._metrics = metrics
        self._trimmer = trimmer
        self._stopped = threading.Event()
        self.is_ready = False

    def set_ready(self, is_ready: bool) -> None:
        """Take part from now on, or not any more."""
        self.is_ready = is_ready
        self._metrics.set_ready(is_ready)
        if is_ready:
            threading.Thread(target=self._run, name="presence", daemon=True).start()
        else:
            self.stop()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while True:
            with suppress(Unavailable):
                self._calls.report_alive()
            self._running.renew()
            self._trimmer.check()
            if self._stopped.wait(ALIVE_INTERVAL_SECONDS):
                return


def start_health_server(
    settings: RendererSettings, registry: CollectorRegistry, presence: Presence, stack: ExitStack
) -> None:
    """Serve health and metrics; ready means that it takes calls and both stores answer."""
    checks = ReadinessChecks(
        {NAME: lambda: OK if presence.is_ready else NOT_READY, **list_store_checks(open_store_health(settings))},
        READY_TIMEOUT_SECONDS,
    )
    try:
        server = HealthServer(
            (settings.probe_host, settings.probe_port), registry, is_healthy=lambda: True, check_readiness=checks.run
        )
    except OSError as error:
        raise SystemExit(f"The renderer cannot start: {error}") from None
    stack.callback(server.stop)
    server.start()


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
