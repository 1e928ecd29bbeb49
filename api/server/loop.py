"""The loop of one process: it waits for sockets and for deadlines, accepts, and lets the protocol do the rest.

It runs on one thread and blocks in select() alone.
"""

import errno
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from api.server.connection import Connection, Listener
from api.server.connections import READ, Connections
from api.server.exchange import Outcome
from api.server.hooks import RequestHooks
from api.server.options import DropReason, ServerLimits
from api.server.peers import PeerPolicy
from api.server.protocol import Protocol

MAX_ACCEPTS = 64
# More than the system holds for one socket.
MAX_BACKLOG = 65_536
SWEEP_SECONDS = 0.5
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class ConnectionLoop:
    """Serves until its caller stops to call step()."""

    def __init__(
        self,
        limits: ServerLimits,
        peers: PeerPolicy,
        hooks: RequestHooks,
        *,
        cfg: Any,
        count_drop: Callable[[DropReason], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers = peers
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._connections = Connections(self._selector, limits, count_drop)
        self._protocol = Protocol(self._connections, limits, peers, hooks, cfg=cfg, clock=clock)
        self._listeners: list[Listener] = []
        self._is_paused = False
        self._next_sweep = 0.0

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def is_stopping(self) -> bool:
        return self._protocol.is_stopping

    def listen(self, listener: Listener) -> None:
        listener.socket.setblocking(False)
        self._listeners.append(listener)
        self._selector.register(listener.socket, READ, listener)

    def watch_wakeups(self, fd: int, run: Callable[[int], None]) -> None:
        """Call run() with the descriptor whenever it is readable."""
        self._selector.register(fd, READ, run)

    def step(self, max_seconds: float) -> None:
        """Wait for events, handle them, and drop the connections whose deadline has passed."""
        ready = self._selector.select(max_seconds if not self._connections else min(max_seconds, SWEEP_SECONDS))
        for key, _ in ready:
            target = key.data
            if isinstance(target, Connection):
                self._protocol.handle(target)
            elif isinstance(target, Listener):
                # One at a time, so that all processes get their share; more if there is much to do.
                self._accept(target, min(MAX_ACCEPTS, len(ready)))
            else:
                target(key.fd)
        now = self._clock()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_SECONDS
            self._sweep(now)

    def finish(self, connection: Connection, future: "Future[Outcome]") -> None:
        """Go on with a connection after its request has run; on the loop's thread."""
        self._protocol.finish(connection, future)

    def push(self, connection: Connection) -> None:
        """Go on with a connection for which the app has pushed something; on the loop's thread."""
        self._protocol.push(connection)

    def stop_listening(self) -> None:
        """Accept the connections that wait already, no more after them, and let those end that are here."""
        for listener in self._listeners:
            self._accept(listener, MAX_BACKLOG)
        self._pause(False)
        for listener in self._listeners:
            self._selector.unregister(listener.socket)
        self._listeners.clear()
        self._protocol.stop()

    def refuse_incomplete(self) -> None:
        """Answer the requests that have not come to their end, because there is no more time for them."""
        self._protocol.refuse_incomplete()

    def close(self) -> None:
        for connection in self._connections.list_all():
            self._connections.close(connection)
        self._selector.close()

    def _accept(self, listener: Listener, most: int) -> None:
        for _ in range(most):
            try:
                client, address = listener.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    raise
                self._make_room()
                return
            client.setblocking(False)
            connection = Connection(client, address, self._peers.identify(address), listener)
            self._connections.add(connection)
            self._protocol.begin(connection)
            if not self._connections.has_room:
                self._make_room()

    def _make_room(self) -> None:
        # If all have a complete request, further clients wait in the system's backlog.
        if not self._connections.drop_oldest():
            self._pause(True)

    def _pause(self, is_paused: bool) -> None:
        """Stop to accept clients, or begin again; operators are always accepted."""
        if is_paused == self._is_paused:
            return
        self._is_paused = is_paused
        for listener in self._listeners:
            if listener.is_internal:
                continue
            if is_paused:
                self._selector.unregister(listener.socket)
            else:
                self._selector.register(listener.socket, READ, listener)

    def _sweep(self, now: float) -> None:
        for connection in self._connections.list_expired(now):
            self._protocol.expire(connection)
        if self._is_paused and self._connections.has_room:
            self._pause(False)
