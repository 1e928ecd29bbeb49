"""The loop of one process: it accepts, reads, sends, and drops, and gives each complete request to `dispatch`.

It runs on one thread and never blocks but in select().  The rules are in the other modules of this package.
"""

import errno
import selectors
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from http import HTTPStatus
from typing import Any

import structlog
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

from api.server import head
from api.server.body import READ_BYTES, BodyReceiver
from api.server.budget import ByteBudget, Reservation
from api.server.connection import NEVER, Connection, Listener, Phase
from api.server.error_pages import build_page
from api.server.exchange import Outcome
from api.server.options import DropReason, ServerLimits
from api.server.peers import PeerPolicy, WaitingConnections, find_surplus
from shared.errors import BodyTooLarge, MaskmillError, RequestTimeout, UnreadableBody, UploadsFull

log = structlog.get_logger()

HEAD_READ_BYTES = 64 * 1024
# A head that comes in pieces counts to the budget of bytes from here on.
FREE_HEAD_BYTES = 4096
MAX_ACCEPTS = 64
SWEEP_SECONDS = 0.5
# A client that sends the rest of a refused body may do so within these.
MAX_DISCARDED_BYTES = 256 * 1024 * 1024
MAX_LINGER_SECONDS = 30.0
# As in gunicorn: a client may be sending a request on an idle connection when the process is told to stop.
STOP_IDLE_SECONDS = 2.0

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FD_LIMIT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Dispatch = Callable[[Connection, MaskmillError | None], None]
"""Runs the request of a connection on a thread, and has finish() called on the loop's thread afterwards."""


class ConnectionLoop:
    """All connections of one process."""

    def __init__(
        self,
        limits: ServerLimits,
        peers: PeerPolicy,
        *,
        cfg: Any,
        dispatch: Dispatch,
        refuse: Callable[[str | None], MaskmillError | None],
        render_error: Callable[[Any, Any, Exception], bytes],
        count_drop: Callable[[DropReason], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._peers = peers
        self._cfg = cfg
        self._dispatch = dispatch
        self._refuse = refuse
        self._render_error = render_error
        self._count_drop = count_drop
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._budget = ByteBudget(limits.max_buffered_bytes)
        self._connections: set[Connection] = set()
        self._waiting: WaitingConnections[Connection] = WaitingConnections(limits.max_connections_per_peer)
        self._writing: OrderedDict[Connection, int] = OrderedDict()
        self._unsent_bytes = 0
        self._listeners: list[Listener] = []
        self._is_paused = False
        self._next_sweep = 0.0
        self.is_stopping = False

    def __len__(self) -> int:
        return len(self._connections)

    # Listening and stepping.

    def listen(self, listener: Listener) -> None:
        listener.socket.setblocking(False)
        self._listeners.append(listener)
        self._selector.register(listener.socket, _READ, listener)

    def watch_wakeups(self, fd: int, run: Callable[[int], None]) -> None:
        """Call run() with the descriptor whenever it is readable."""
        self._selector.register(fd, _READ, run)

    def stop_listening(self) -> None:
        """Accept no more connections, and give idle ones a short time for a request that is on its way."""
        self.is_stopping = True
        self._pause(False)
        for listener in self._listeners:
            self._selector.unregister(listener.socket)
        self._listeners.clear()
        now = self._clock()
        for connection in self._connections:
            if _is_idle(connection):
                connection.deadline = min(connection.deadline, now + STOP_IDLE_SECONDS)

    def close(self) -> None:
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()

    def step(self, max_seconds: float) -> None:
        """Wait for events, handle them, and drop the connections whose deadline has passed."""
        ready = self._selector.select(max_seconds if not self._connections else min(max_seconds, SWEEP_SECONDS))
        for key, events in ready:
            target = key.data
            if isinstance(target, Connection):
                self._handle(target, events)
            elif isinstance(target, Listener):
                # One at a time, so that all processes get their share; more if there is much to do.
                self._accept(target, min(MAX_ACCEPTS, len(ready)))
            else:
                target(key.fd)
        now = self._clock()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_SECONDS
            self._sweep(now)

    def _accept(self, listener: Listener, most: int) -> None:
        for _ in range(most):
            try:
                client, address = listener.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _FD_LIMIT:
                    raise
                self._drop_oldest()
                return
            client.setblocking(False)
            connection = Connection(client, address, self._peers.identify(address), listener)
            self._connections.add(connection)
            self._wait_for_client(connection, Phase.HEAD, self._limits.header_seconds)
            self._handle(connection, _READ)
            if len(self._connections) > self._limits.max_connections:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._waiting.get_oldest()
        if oldest is not None:
            self._drop(oldest, DropReason.CONNECTION_LIMIT)
        else:
            self._pause(True)

    def _pause(self, is_paused: bool) -> None:
        """Stop to accept clients, whose connections wait in the system's backlog, or begin again."""
        if is_paused == self._is_paused:
            return
        self._is_paused = is_paused
        for listener in self._listeners:
            if listener.is_internal:
                continue
            if is_paused:
                self._selector.unregister(listener.socket)
            else:
                self._selector.register(listener.socket, _READ, listener)

    def _handle(self, connection: Connection, events: int) -> None:
        if connection.phase is Phase.CLOSED:
            return
        try:
            _HANDLERS[connection.phase](self, connection)
        except OSError:
            self._close(connection)
        except Exception:
            log.exception("connection_failed", phase=connection.phase)
            self._close(connection)

    # Reading a request.

    def _wait_for_client(self, connection: Connection, phase: Phase, seconds: float) -> None:
        connection.phase = phase
        connection.deadline = self._clock() + seconds
        surplus = self._waiting.add(connection, connection.peer)
        if surplus is not None:
            self._drop(surplus, DropReason.PEER_LIMIT)

    def _read_idle(self, connection: Connection) -> None:
        self._take_head(connection, connection.receive(HEAD_READ_BYTES))
        if connection.phase is Phase.IDLE and connection.received:
            self._wait_for_client(connection, Phase.HEAD, self._limits.header_seconds)

    def _read_head(self, connection: Connection) -> None:
        self._take_head(connection, connection.receive(HEAD_READ_BYTES))

    def _take_head(self, connection: Connection, data: bytes | None) -> None:
        if data == b"":
            self._close(connection)
            return
        if data:
            connection.received += data
            self._advance(connection)
        else:
            self._watch(connection, _READ)

    def _advance(self, connection: Connection) -> None:
        """Parse the head if it is complete."""
        received = connection.received
        length = head.find_end(received, connection.searched)
        is_hopeless = length < 0 and head.is_hopeless(received, connection.searched, self._cfg.limit_request_line)
        if length < 0 and not is_hopeless:
            connection.searched = len(received)
            self._wait_for_more_head(connection)
            return
        length = len(received) if is_hopeless else length
        connection.number += 1
        try:
            request = head.parse_head(bytes(received[:length]), self._cfg, connection.address, connection.number)
        except ParseException as error:
            self._answer(connection, self._render_error(None, connection.address, error))
            return
        del received[:length]
        connection.searched = 0
        connection.request = request
        self._begin_body(connection)

    def _wait_for_more_head(self, connection: Connection) -> None:
        if len(connection.received) > FREE_HEAD_BYTES:
            if connection.head_reservation is None:
                connection.head_reservation = Reservation(self._budget, connection.peer)
            missing = len(connection.received) - connection.head_reservation.nbytes
            if not connection.head_reservation.grow(missing):
                self._answer(connection, build_page(HTTPStatus.TOO_MANY_REQUESTS, UploadsFull()))
                return
        self._watch(connection, _READ)

    def _begin_body(self, connection: Connection) -> None:
        length = head.get_body_length(connection.request)
        if length == 0:
            self._run(connection, None)
            return
        refusal = self._check_body(connection, length)
        if refusal is not None:
            self._run(connection, refusal)
            return
        assert connection.body is not None
        if connection.request._expected_100_continue and not connection.received:
            connection.unsent.append(memoryview(_CONTINUE))
            connection.send()
            if connection.unsent:
                raise BrokenPipeError("the client reads nothing")
        self._take_body(connection, bytes(connection.received))

    def _check_body(self, connection: Connection, length: int | None) -> MaskmillError | None:
        """Reserve room for the body; return the error of one that is not read."""
        if length is not None and length > self._limits.max_body_bytes:
            return BodyTooLarge("The request body is larger than this service takes.")
        is_here = length is not None and length <= len(connection.received)
        if not is_here:
            refusal = self._refuse(head.get_header(connection.request, "AUTHORIZATION"))
            if refusal is not None:
                return refusal
        reservation = self._budget.reserve(connection.peer, length or 0)
        if reservation is None:
            return UploadsFull()
        connection.body = BodyReceiver(length, self._limits.max_body_bytes, reservation)
        return None

    def _read_body(self, connection: Connection) -> None:
        assert connection.body is not None
        data = connection.receive(connection.body.wanted_bytes)
        if data == b"":
            self._run(connection, connection.body.describe_cut())
        elif data:
            connection.deadline = self._limits.transfer.extend(connection.deadline, self._clock(), len(data))
            self._take_body(connection, data)

    def _take_body(self, connection: Connection, data: bytes) -> None:
        body = connection.body
        assert body is not None
        try:
            rest = body.feed(data)
        except (UnreadableBody, BodyTooLarge, UploadsFull) as refusal:
            self._run(connection, refusal)
            return
        connection.received = bytearray(rest)
        if body.is_complete:
            self._run(connection, None)
            return
        if connection.phase is not Phase.BODY:
            self._wait_for_client(connection, Phase.BODY, NEVER)
            connection.deadline = self._limits.transfer.start(self._clock())
        self._watch(connection, _READ)

    # Running a request and sending its response.

    def _run(self, connection: Connection, refusal: MaskmillError | None) -> None:
        self._waiting.remove(connection)
        self._watch(connection, 0)
        connection.phase = Phase.RUNNING
        connection.deadline = NEVER
        if connection.head_reservation is not None:
            connection.head_reservation.release()
            connection.head_reservation = None
        if refusal is not None:
            connection.release_body()
        elif connection.body is not None:
            connection.body.reservation.complete()
        self._dispatch(connection, refusal)

    def finish(self, connection: Connection, future: "Future[Outcome]") -> None:
        """Go on with a connection after its request has run."""
        try:
            self._finish(connection, future.result())
        except (OSError, CancelledError):
            self._close(connection)
        except Exception:
            log.exception("connection_failed", phase=connection.phase)
            self._close(connection)

    def _finish(self, connection: Connection, outcome: Outcome) -> None:
        connection.release()
        connection.keeps_alive = outcome.keeps_alive
        if outcome.unsent:
            connection.unsent = outcome.unsent
            self._wait_for_reader(connection)
        else:
            self._settle(connection)

    def _answer(self, connection: Connection, page: bytes) -> None:
        """Answer without the app, and close."""
        self._waiting.remove(connection)
        connection.release()
        connection.keeps_alive = False
        connection.received.clear()
        connection.unsent.append(memoryview(page))
        connection.send()
        if connection.unsent:
            self._wait_for_reader(connection)
        else:
            self._settle(connection)

    def _wait_for_reader(self, connection: Connection) -> None:
        connection.phase = Phase.WRITING
        connection.deadline = self._limits.transfer.start(self._clock())
        nbytes = connection.unsent_bytes
        self._writing[connection] = nbytes
        self._unsent_bytes += nbytes
        self._watch(connection, _WRITE)
        while self._unsent_bytes > self._limits.max_buffered_bytes and len(self._writing) > 1:
            self._drop(find_surplus(self._writing, _get_peer), DropReason.UNREAD_RESPONSES)

    def _write(self, connection: Connection) -> None:
        sent = connection.send()
        connection.deadline = self._limits.transfer.extend(connection.deadline, self._clock(), sent)
        self._writing[connection] -= sent
        self._unsent_bytes -= sent
        if not connection.unsent:
            self._forget_writer(connection)
            self._settle(connection)

    def _forget_writer(self, connection: Connection) -> None:
        self._unsent_bytes -= self._writing.pop(connection, 0)

    def _settle(self, connection: Connection) -> None:
        """Wait for the next request, or for the client to close."""
        if not connection.keeps_alive:
            self._linger(connection)
            return
        seconds = STOP_IDLE_SECONDS if self.is_stopping else self._limits.keep_alive_seconds
        if connection.received:
            self._wait_for_client(connection, Phase.HEAD, self._limits.header_seconds)
            self._advance(connection)
        else:
            self._wait_for_client(connection, Phase.IDLE, seconds)
            self._watch(connection, _READ)

    # Closing.

    def _linger(self, connection: Connection) -> None:
        """Close the sending side and discard what still comes, so that the client is not reset before it has read."""
        connection.socket.shutdown(1)
        now = self._clock()
        connection.received.clear()
        self._wait_for_client(connection, Phase.LINGERING, self._limits.linger_seconds)
        connection.linger_until = now + max(MAX_LINGER_SECONDS, self._limits.linger_seconds)
        self._watch(connection, _READ)
        self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        data = connection.receive(READ_BYTES)
        if data is None:
            return
        connection.discarded_bytes += len(data)
        if not data or connection.discarded_bytes > MAX_DISCARDED_BYTES:
            self._close(connection)
            return
        connection.deadline = min(self._clock() + self._limits.linger_seconds, connection.linger_until)

    def _drop(self, connection: Connection, reason: DropReason) -> None:
        self._count_drop(reason)
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.phase is Phase.CLOSED:
            return
        self._watch(connection, 0)
        connection.phase = Phase.CLOSED
        connection.release()
        self._waiting.remove(connection)
        self._forget_writer(connection)
        self._connections.discard(connection)
        connection.unsent.clear()
        connection.received.clear()
        connection.socket.close()

    def _sweep(self, now: float) -> None:
        for connection in [one for one in self._connections if one.deadline <= now]:
            try:
                self._expire(connection)
            except OSError:
                self._close(connection)
        if self._is_paused and len(self._connections) < self._limits.max_connections:
            self._pause(False)

    def _expire(self, connection: Connection) -> None:
        match connection.phase:
            case Phase.HEAD if connection.received:
                self._count_drop(DropReason.HEADER_TIMEOUT)
                self._answer(connection, build_page(HTTPStatus.REQUEST_TIMEOUT, _too_slow()))
            case Phase.HEAD:
                self._drop(connection, DropReason.HEADER_TIMEOUT)
            case Phase.BODY:
                self._count_drop(DropReason.BODY_TIMEOUT)
                self._run(connection, _too_slow())
            case Phase.WRITING:
                self._drop(connection, DropReason.READ_TIMEOUT)
            case Phase.LINGERING:
                self._drop(connection, DropReason.LINGER_TIMEOUT)
            case _:
                self._close(connection)

    def _watch(self, connection: Connection, events: int) -> None:
        before = connection.watched_events
        if events == before:
            return
        connection.watched_events = events
        if not before:
            self._selector.register(connection.socket, events, connection)
        elif events:
            self._selector.modify(connection.socket, events, connection)
        else:
            self._selector.unregister(connection.socket)


_HANDLERS: dict[Phase, Callable[[ConnectionLoop, Connection], None]] = {
    Phase.IDLE: ConnectionLoop._read_idle,
    Phase.HEAD: ConnectionLoop._read_head,
    Phase.BODY: ConnectionLoop._read_body,
    Phase.WRITING: ConnectionLoop._write,
    Phase.LINGERING: ConnectionLoop._discard,
}


def _get_peer(connection: Connection) -> str | None:
    return connection.peer


def _is_idle(connection: Connection) -> bool:
    return connection.phase is Phase.IDLE or (connection.phase is Phase.HEAD and not connection.received)


def _too_slow() -> RequestTimeout:
    return RequestTimeout("The request came too slowly; send it again over a faster connection.")
