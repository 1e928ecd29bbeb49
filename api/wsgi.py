"""Composition root of the gateway:  python -m api.wsgi

Gunicorn's master builds nothing; every process it forks builds its own app, so that no thread and no connection crosses
a fork.
"""

import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import structlog
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from api.http.authentication import build_authenticator
from api.http.gunicorn_worker import JsonWorker
from api.settings import ApiSettings
from shared.logs import configure_logging
from shared.settings import read_settings

if TYPE_CHECKING:
    from flask_openapi3.openapi import OpenAPI

    from api.services import Services

log = structlog.get_logger()

GRACE_SECONDS = 10
METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"


def main() -> int:
    """Serve until SIGTERM; what cannot work is told in one line before anything is served."""
    settings = read_settings(ApiSettings)
    try:
        build_authenticator(settings)
        listener = listen(settings.bind)
    except (ValueError, OSError) as error:
        raise SystemExit(f"The gateway cannot start: {error}") from None
    configure_logging(settings, process="gateway")
    with metrics_folder(settings):
        Gateway(settings, listener.detach()).run()
    return 0


class Gateway(BaseApplication):  # type: ignore[misc]
    """Gunicorn with our settings; nothing is read from its own files, arguments or environment."""

    def __init__(self, settings: ApiSettings, listener: int) -> None:
        """Take over the file descriptor of a bound socket."""
        self._settings = settings
        self._listener = listener
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": f"fd://{self._listener}",
            "workers": self._settings.processes,
            "worker_class": JsonWorker,
            "threads": self._settings.threads,
            "worker_connections": 4 * self._settings.threads,
            "graceful_timeout": GRACE_SECONDS,
            "keepalive": 75,
            # A process is alive as long as its main thread is; what single requests may take is limited elsewhere.
            "timeout": 60,
            "proc_name": "maskmill-gateway",
            "logger_class": StructuredLogger,
            "control_socket_disable": True,
            "child_exit": forget_process,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> "OpenAPI":
        return build_app(self._settings)


class StructuredLogger(Logger):  # type: ignore[misc]
    """Gunicorn's own records go the way of all others; each request is logged by the app."""

    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.handlers.clear()
        self.error_log.setLevel(logging.INFO)
        self.access_log.disabled = True


def build_app(settings: ApiSettings) -> "OpenAPI":
    """Return the app of one process."""
    # Only now, because prometheus-client decides on import whether it counts for one process or for several.
    from api.app import create_app

    return create_app(settings, build_services(settings))


def build_services(settings: ApiSettings) -> "Services":
    """Connect nothing yet, but know where everything is."""
    from api.inference.model_registry import ModelRegistry
    from api.jobs.compensation import Compensator
    from api.metrics import FleetCollector, GatewayMetrics
    from api.services import Limits, Services
    from shared.jobs.events import JobEvents
    from shared.jobs.ids import new_job_id
    from shared.jobs.payloads import PayloadStore
    from shared.jobs.store import JobStore
    from shared.redis_client import connect
    from shared.storage.bucket import open_bucket
    from shared.worker_registry import WorkerRegistry

    redis = connect(settings)
    registry = WorkerRegistry(redis)
    jobs = JobStore(
        redis,
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        result_ttl_seconds=settings.result_ttl_seconds,
    )
    bucket = open_bucket(settings)
    return Services(
        authenticator=build_authenticator(settings),
        jobs=jobs,
        bucket=bucket,
        payloads=PayloadStore(connect(settings, decode=False)),
        events=JobEvents(redis),
        model_registry=ModelRegistry(registry, default=settings.model),
        compensator=Compensator(),
        metrics=GatewayMetrics(),
        fleet=FleetCollector(jobs, registry),
        limits=Limits(
            max_image_pixels=settings.max_image_pixels,
            max_queued=settings.max_queued,
            max_waiting_seconds=settings.max_waiting_seconds,
            sync_deadline_seconds=settings.sync_deadline_seconds,
            cold_start_seconds=settings.cold_start_seconds,
            ready_timeout_seconds=settings.ready_timeout_seconds,
        ),
        new_id=new_job_id,
        now=time.time,
        checks={"redis": jobs.check, "storage": bucket.check},
    )


def listen(bind: str) -> socket.socket:
    """Return a socket that is bound to `host:port` or `unix:/path`; a fork inherits it.

    Raises:
        ValueError: it is neither.
        OSError: somebody else has it.
    """
    if bind.startswith("unix:"):
        return _listen_at_path(Path(bind.removeprefix("unix:")))
    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"MASKMILL_BIND: {bind} is neither host:port nor unix:/path")
    host = host.strip("[]")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, int(port)))
    except (OSError, OverflowError) as error:
        listener.close()
        raise OSError(f"{bind} cannot be listened at: {getattr(error, 'strerror', error)}") from error
    return listener


def _listen_at_path(path: Path) -> socket.socket:
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    return listener


@contextmanager
def metrics_folder(settings: ApiSettings) -> Iterator[None]:
    """Give the processes a place to count together, unless the operator named one or there is but one process."""
    named = os.environ.get(METRICS_DIR)
    if named:
        Path(named).mkdir(parents=True, exist_ok=True)
        for left in Path(named).glob("*.db"):
            left.unlink()
    if named or settings.processes == 1:
        yield
        return
    master = os.getpid()
    folder = os.environ[METRICS_DIR] = mkdtemp(prefix="maskmill-metrics-")
    try:
        yield
    finally:
        # The forked processes come by here as well when they end.
        if os.getpid() == master:
            shutil.rmtree(folder, ignore_errors=True)


def forget_process(_arbiter: Any, worker: Any) -> None:
    """Drop the gauges of a process that ended; its counters still count."""
    if METRICS_DIR in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    sys.exit(main())
