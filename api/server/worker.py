"""Gunicorn's worker process around the loop: start, threads, graceful stop.

Its master, the arbiter, is gunicorn's own: it binds, forks, restarts and stops the processes.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import Any

from gunicorn.workers.base import Worker  # type: ignore[import-untyped]
from gunicorn.workers.gthread import PollableMethodQueue  # type: ignore[import-untyped]

from api.server import head
from api.server.connection import Connection, Listener
from api.server.error_pages import translate_page
from api.server.exchange import Exchange, Outcome, run_exchange
from api.server.forwarded import ForwardedRequests, parse_prefix, read_last_value
from api.server.hooks import RequestHooks
from api.server.loop import ConnectionLoop
from api.server.options import LIVENESS_PATH, READINESS_PATHS, HttpService, ServerLimits, WsgiApp
from api.server.paths import merge_slashes, remove_prefix
from api.server.peers import PeerPolicy
from shared.errors import MaskmillError

READINESS_THREADS = 4
_MAX_WAIT_SECONDS = 1.0
# At the end of the grace period, for the responses to requests that cannot finish.  Not before: some clients repeat a
# request immediately after a 503, and would do so all the time.
ANSWER_SECONDS = 2.0
# The whole of a quick stop; gunicorn kills a process two seconds after it.
QUICK_SECONDS = 1.5


class LoopWorker(Worker):  # type: ignore[misc]
    """Runs a ConnectionLoop on the main thread and requests on others.

    Its app, in gunicorn's sense, has `server_limits`, `peers` and `internal_address`, and loads an HttpService.
    """

    alive: bool
    _is_quick = False

    def init_process(self) -> None:
        self._wakeups = PollableMethodQueue()
        self._wakeups.init()
        self._threads = ThreadPoolExecutor(self.cfg.threads, thread_name_prefix="request")
        # One thread that runs nothing slow, and some for what asks the stores: neither is ever held by a client.
        self._liveness = ThreadPoolExecutor(1, thread_name_prefix="liveness")
        self._readiness = ThreadPoolExecutor(READINESS_THREADS, thread_name_prefix="readiness")
        super().init_process()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin the graceful stop."""
        if self.alive:
            self.alive = False
            self._wakeups.defer(lambda: None)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Begin a stop in which no request waits for its result; or hurry the one that has begun."""
        if not self._is_quick:
            self._is_quick = True
            self.alive = False
            self._wakeups.defer(lambda: None)

    def run(self) -> None:
        service: HttpService = self.wsgi
        limits: ServerLimits = self.app.server_limits
        peers: PeerPolicy = self.app.peers
        self._service = service
        self._behind_proxy = ForwardedRequests(service.app)
        self._loop = ConnectionLoop(
            limits,
            peers,
            RequestHooks(self._dispatch, service.refuse, self._render_error, self._defer_push),
            cfg=self.cfg,
            count_drop=service.count_drop,
        )
        self._loop.watch_wakeups(self._wakeups.fileno(), self._wakeups.run_callbacks)
        for listener in self.sockets:
            address = listener.getsockname()
            self._loop.listen(Listener(listener, address, address == self.app.internal_address))
        next_check = 0.0
        while self.alive:
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + _MAX_WAIT_SECONDS
                self.notify()
                if not self._is_parent_alive():
                    break
            self._loop.step(_MAX_WAIT_SECONDS)
        self._stop()

    def _stop(self) -> None:
        """Let requests in flight finish, within the grace period; those that cannot are answered before its end."""
        grace_seconds: float = self.cfg.graceful_timeout
        deadline = time.monotonic() + grace_seconds
        self._loop.stop_listening()
        for listener in self.sockets:
            listener.close()
        self._service.begin_drain()
        self._serve_until(deadline - min(ANSWER_SECONDS, grace_seconds / 2), unless=lambda: self._is_quick)
        self._service.end_waits()
        self._loop.refuse_incomplete()
        self._serve_until(min(deadline, time.monotonic() + QUICK_SECONDS) if self._is_quick else deadline)
        self._service.close()
        for executor in (self._threads, self._liveness, self._readiness):
            executor.shutdown(wait=False)
        self._loop.close()
        # A further signal must not write to the pipe.
        self._is_quick = True
        self._wakeups.close()

    def _serve_until(self, deadline: float, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Go on until all connections are closed, or the deadline has passed, or unless() is true."""
        while len(self._loop) and not unless() and (left := deadline - time.monotonic()) > 0:
            self.notify()
            self._loop.step(min(left, _MAX_WAIT_SECONDS))

    def _is_parent_alive(self) -> bool:
        is_alive: bool = self.ppid == os.getppid()
        if not is_alive:
            self.log.info("Parent changed, shutting down: %s", self)
        return is_alive

    def _dispatch(self, connection: Connection, refusal: MaskmillError | None) -> None:
        body = connection.body
        exchange = Exchange(
            request=connection.request,
            content=BytesIO() if body is None else body.content,
            reservation=None if body is None else body.reservation,
            refusal=refusal,
            closes=lambda: refusal is not None or connection.is_last or self._loop.is_stopping,
            client=connection.socket,
            address=connection.address,
            server=connection.listener.address,
            app=self._choose_app(connection),
            cfg=self.cfg,
            render_error=self._render_error,
        )
        exchange.content.seek(0)
        future = self._choose_executor(connection).submit(run_exchange, exchange)
        future.add_done_callback(partial(self._defer_finish, connection))

    def _defer_finish(self, connection: Connection, future: "Future[Outcome]") -> None:
        self._wakeups.defer(self._loop.finish, connection, future)

    def _defer_push(self, connection: Connection) -> None:
        # Streams are ended when the process stops, also after its loop.
        with suppress(OSError, ValueError):
            self._wakeups.defer(self._loop.push, connection)

    def _choose_app(self, connection: Connection) -> WsgiApp:
        if connection.listener.is_internal:
            return self._service.operations
        return self._service.app if connection.peer is not None else self._behind_proxy

    def _choose_executor(self, connection: Connection) -> Executor:
        path = self._find_path(connection)
        if path == LIVENESS_PATH:
            return self._liveness
        if connection.listener.is_internal or path in READINESS_PATHS:
            return self._readiness
        return self._threads

    def _find_path(self, connection: Connection) -> str:
        """Return the path as the app will see it."""
        path: str = connection.request.path
        if connection.peer is not None or connection.listener.is_internal:
            return merge_slashes(path)
        prefix = read_last_value(head.get_last_value(connection.request, "X-FORWARDED-PREFIX"))
        return remove_prefix(path, parse_prefix(prefix) or "")

    def _render_error(self, request: Any, address: Any, error: Exception) -> bytes:
        """Return the JSON page for an exception; gunicorn chooses its status and logs it."""
        page = _PageSink()
        self.handle_error(request, page, address, error)
        return translate_page(page.content)


class _PageSink:
    """Replaces the client's socket while gunicorn writes an error page."""

    def __init__(self) -> None:
        self.content = b""

    def gettimeout(self) -> float | None:
        return None

    def setblocking(self, _flag: bool) -> None:
        """Do nothing: nothing here blocks."""

    def sendall(self, data: bytes) -> None:
        self.content += data
