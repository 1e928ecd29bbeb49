"""Composition root of the gateway:  python -m api.wsgi [--check-settings]

Gunicorn's master builds nothing, and imports what its processes share; every process it forks builds its own app, so
that no thread and no connection crosses a fork.
"""

import gc
import logging
import os
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import structlog
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from api.http.authentication import Authenticator, build_authenticator
from api.http.hosts import build_host_policy
from api.server.arbiter import GatewayArbiter
from api.server.listening import listen
from api.server.options import HttpService, ServerLimits
from api.server.peers import PeerPolicy
from api.server.transfer import MinimumRate
from api.server.worker import LoopWorker
from api.settings import OFF, ApiSettings
from api.start_check import check_stores
from shared.command_line import check_arguments
from shared.errors import MaskmillError, Unauthorized, UnusableStores
from shared.logs import configure_logging
from shared.memory import HOST_MAPPED_BYTES, limit_kept_memory
from shared.setting_names import log_unknown
from shared.settings import read_settings
from shared.storage.bucket import check_credentials

log = structlog.get_logger()

# More connections than this need more processes.
MAX_OPEN_FILES = 65_536
RESERVED_FILES = 256
CHECK = "--check-settings"
_PURPOSE = "Run a gateway, which serves the API and the pages, until SIGTERM."
METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"


def main(arguments: Sequence[str] = ()) -> int:
    """Serve until SIGTERM; exit with one line before serving if the configuration is invalid.

    With the argument CHECK, only the settings are checked.
    """
    settings = read_settings(ApiSettings)
    try:
        check_access(settings)
        if CHECK in arguments:
            return 0
        check_credentials(settings)
        configure_logging(settings, process="gateway")
        log_unknown()
        are_checked = check_stores(settings)
        listener = listen(settings.bind, name="MASKMILL_BIND")
        internal_listener = listen_for_operators(settings)
    except (ValueError, OSError, UnusableStores) as error:
        raise SystemExit(f"The gateway cannot start: {error}") from None
    raise_file_limit()
    limit_kept_memory(mapped_bytes=HOST_MAPPED_BYTES)
    with metrics_folder(settings):
        GatewayApplication(settings, listener, internal_listener, are_stores_checked=are_checked).run()
    return 0


class GatewayApplication(BaseApplication):  # type: ignore[misc]
    """Gunicorn with these settings alone; its own files, arguments and environment are not read."""

    def __init__(
        self,
        settings: ApiSettings,
        listener: socket.socket,
        internal_listener: socket.socket | None = None,
        *,
        are_stores_checked: bool = True,
    ) -> None:
        """Take bound sockets; the second, if there is one, is for health and metrics."""
        self._settings = settings
        self._are_stores_checked = are_stores_checked
        self.internal_address = internal_listener.getsockname() if internal_listener else None
        self._sockets = [one.detach() for one in (listener, internal_listener) if one]
        super().__init__()

    @property
    def server_limits(self) -> ServerLimits:
        return build_limits(self._settings)

    @property
    def peers(self) -> PeerPolicy:
        return PeerPolicy(self._settings.trusted_networks)

    def load_config(self) -> None:
        # Gunicorn would remove it from each path, and fail on the paths that do not begin with it.
        os.environ.pop("SCRIPT_NAME", None)
        options: dict[str, Any] = {
            "bind": [f"fd://{number}" for number in self._sockets],
            "workers": self._settings.processes,
            "worker_class": LoopWorker,
            "threads": self._settings.threads,
            "graceful_timeout": self._settings.graceful_timeout_seconds,
            # Applies to the main thread; the duration of a request is limited by other settings.
            "timeout": 60,
            # What proxies say is read in one place, api/server/forwarded.py.  None may set SCRIPT_NAME or PATH_INFO: a
            # proxy passes on what its clients send.
            "forwarded_allow_ips": "",
            "secure_scheme_headers": {},
            "forwarder_headers": "",
            "sendfile": False,
            "proc_name": "maskmill-gateway",
            "logger_class": StructuredLogger,
            "control_socket_disable": True,
            "child_exit": drop_gauges,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def run(self) -> None:
        import_parts()
        GatewayArbiter(self).run()

    def load(self) -> HttpService:
        return build_service(self._settings, are_stores_checked=self._are_stores_checked)


class StructuredLogger(Logger):  # type: ignore[misc]
    """Sends gunicorn's records to the root logger; the app logs the requests."""

    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.handlers.clear()
        self.error_log.setLevel(logging.INFO)
        self.access_log.disabled = True


def import_parts() -> None:
    """Import what builds a service, before a process is forked: the processes share the memory of the modules.

    Not with this module, because prometheus-client chooses at import between single-process and multiprocess mode.
    """
    from api import app, composition, operations, stores  # noqa: F401

    # The collector would write into the pages of the modules, which copies them.
    gc.collect()
    gc.freeze()


def build_service(settings: ApiSettings, *, are_stores_checked: bool) -> HttpService:
    """Return what one process serves; if its stores are not checked yet, it refuses work until they are."""
    # Imported here for the reason that import_parts() gives.
    from api.app import create_app
    from api.composition import build_gateway
    from api.operations import create_operations_app
    from api.stores import connect_stores

    stores = connect_stores(settings)
    gateway = build_gateway(settings, stores)
    if not are_stores_checked:
        stores.guard.start()
    return HttpService(
        app=create_app(settings, gateway),
        operations=create_operations_app(gateway, bind=settings.metrics_bind),
        refuse=partial(refuse_unauthorized, gateway.authenticator),
        count_drop=gateway.metrics.count_drop,
        begin_drain=partial(begin_drain, gateway.drain.begin, gateway.streams.end_all),
        end_waits=gateway.drain.end_waits,
        close=stores.events.close,
    )


def begin_drain(end_early_requests: Callable[[], object], end_streams: Callable[[], object]) -> None:
    """End the requests that may be answered early, and the streams, whose clients connect again."""
    # The gateway is no argument: its module imports the metrics, whose library reads METRICS_DIR when it is imported.
    end_early_requests()
    end_streams()


def refuse_unauthorized(authenticator: Authenticator, authorization: str | None) -> MaskmillError | None:
    """Return the error of a request without a valid token, whose body is not worth to be read."""
    try:
        authenticator.authenticate(authorization)
    except Unauthorized as error:
        return error
    return None


def build_limits(settings: ApiSettings) -> ServerLimits:
    """Return the limits of one process; its connections are bounded by its limit of open files, too."""
    # Requests use connections to the stores.
    max_open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_FILES - 2 * settings.threads
    max_connections = max(settings.threads, min(settings.max_connections, max_open_files))
    return ServerLimits(
        header_seconds=settings.header_timeout_seconds,
        transfer=MinimumRate(settings.transfer_timeout_seconds, settings.min_transfer_bytes_per_second),
        keep_alive_seconds=settings.keep_alive_seconds,
        linger_seconds=settings.linger_seconds,
        max_body_bytes=settings.max_upload_bytes,
        max_buffered_bytes=settings.max_buffered_bytes,
        max_connections=max_connections,
        # One peer never has all of them.
        max_connections_per_peer=max(1, min(settings.max_connections_per_peer, max_connections // 2)),
    )


def raise_file_limit() -> None:
    """Raise this process's limit of open files as far as the system allows, and no further than is of use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_access(settings: ApiSettings) -> None:
    """Check the settings that say who may call, and under which names.

    Raises:
        ValueError: one of them is wrong, or they contradict each other.
    """
    requires_token = build_authenticator(settings).requires_token
    build_host_policy(settings.allowed_hosts, bind=settings.reachable_at, requires_token=requires_token)


def listen_for_operators(settings: ApiSettings) -> socket.socket | None:
    """Return a socket for health and metrics, or None if there is to be none.

    The default address may be in use by another gateway of this machine; one that was configured must be free.

    Raises:
        OSError: the configured address is in use.
    """
    if settings.metrics_bind == OFF:
        return None
    try:
        return listen(settings.metrics_bind, name="MASKMILL_METRICS_BIND")
    except OSError as error:
        if "metrics_bind" in settings.model_fields_set:
            raise
        log.warning("metrics_unavailable", reason=str(error), setting="MASKMILL_METRICS_BIND")
        return None


@contextmanager
def metrics_folder(settings: ApiSettings) -> Iterator[None]:
    """Make a folder for the metrics of all processes, unless the operator named one or there is one process only."""
    configured = os.environ.get(METRICS_DIR)
    if configured:
        _empty_metrics_folder(Path(configured))
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


def _empty_metrics_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.db"):
            old.unlink()
    except OSError as error:
        raise SystemExit(
            f"The gateway cannot start: {METRICS_DIR}: {folder} cannot be written: {error.strerror}"
        ) from None


def drop_gauges(_arbiter: Any, worker: Any) -> None:
    """Drop the gauges of a process that ended; its counters remain."""
    if METRICS_DIR in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    check_arguments("api.wsgi", _PURPOSE, {CHECK: "check the settings, and start nothing"})
    sys.exit(main(sys.argv[1:]))
