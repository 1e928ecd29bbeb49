"""Composition root of the gateway:  python -m api.wsgi

Gunicorn's master builds nothing; every process it forks builds its own app, so that no thread and no connection crosses
a fork.
"""

import logging
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import structlog
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from api.http.authentication import build_authenticator
from api.http.gunicorn_worker import JsonWorker
from api.settings import ApiSettings
from shared.errors import LayoutMismatch, Unavailable
from shared.layout import check_redis_layout
from shared.logs import configure_logging
from shared.redis_client import connect
from shared.settings import read_settings

if TYPE_CHECKING:
    from flask_openapi3.openapi import OpenAPI

log = structlog.get_logger()

GRACEFUL_TIMEOUT_SECONDS = 10
METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"


def main() -> int:
    """Serve until SIGTERM; exit with one line before serving if the configuration is invalid."""
    settings = read_settings(ApiSettings)
    try:
        build_authenticator(settings)
        check_layout(settings)
        listener = listen(settings.bind)
    except (ValueError, OSError, LayoutMismatch) as error:
        raise SystemExit(f"The gateway cannot start: {error}") from None
    configure_logging(settings, process="gateway")
    with metrics_folder(settings):
        Gateway(settings, listener.detach()).run()
    return 0


class Gateway(BaseApplication):  # type: ignore[misc]
    """Gunicorn with these settings alone; its own files, arguments and environment are not read."""

    def __init__(self, settings: ApiSettings, listener: int) -> None:
        """`listener` is the file descriptor of a bound socket."""
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
            "graceful_timeout": GRACEFUL_TIMEOUT_SECONDS,
            "keepalive": 75,
            # Applies to the main thread; the duration of a request is limited by other settings.
            "timeout": 60,
            "proc_name": "maskmill-gateway",
            "logger_class": StructuredLogger,
            "control_socket_disable": True,
            "child_exit": drop_gauges,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> "OpenAPI":
        return build_app(self._settings)


class StructuredLogger(Logger):  # type: ignore[misc]
    """Sends gunicorn's records to the root logger; the app logs the requests."""

    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.handlers.clear()
        self.error_log.setLevel(logging.INFO)
        self.access_log.disabled = True


def build_app(settings: ApiSettings) -> "OpenAPI":
    """Return the app of one process."""
    # Imported here, because prometheus-client chooses at import between single-process and multiprocess mode.
    from api.app import create_app
    from api.composition import build_gateway, connect_stores

    return create_app(settings, build_gateway(settings, connect_stores(settings)))


def check_layout(settings: ApiSettings) -> None:
    """Check the layout of the data in Redis, if it answers; the bucket's is checked by worker and steward.

    Raises:
        LayoutMismatch: Redis holds data of another layout.
    """
    with connect(settings) as client, suppress(Unavailable):
        check_redis_layout(client)


def listen(bind: str) -> socket.socket:
    """Return a socket that is bound to `host:port` or `unix:/path`; a fork inherits it.

    Raises:
        ValueError: it is neither.
        OSError: it is in use.
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
        raise OSError(f"{bind} cannot be listened on: {getattr(error, 'strerror', error)}") from error
    return listener


def _listen_at_path(path: Path) -> socket.socket:
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    return listener


@contextmanager
def metrics_folder(settings: ApiSettings) -> Iterator[None]:
    """Make a folder for the metrics of all processes, unless the operator named one or there is one process only."""
    configured = os.environ.get(METRICS_DIR)
    if configured:
        Path(configured).mkdir(parents=True, exist_ok=True)
        for old in Path(configured).glob("*.db"):
            old.unlink()
    if configured or settings.processes == 1:
        yield
        return
    master = os.getpid()
    folder = os.environ[METRICS_DIR] = mkdtemp(prefix="maskmill-metrics-")
    try:
        yield
    finally:
        # Forked processes leave this block too when they end.
        if os.getpid() == master:
            shutil.rmtree(folder, ignore_errors=True)


def drop_gauges(_arbiter: Any, worker: Any) -> None:
    """Drop the gauges of a process that ended; its counters remain."""
    if METRICS_DIR in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    sys.exit(main())
