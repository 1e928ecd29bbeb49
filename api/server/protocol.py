"""What happens to a connection in each of its phases: a request is read, run, answered, and the connection closed.

Nothing here blocks, and nothing here waits: the loop calls handle() when the socket is ready and expire() when the
deadline has passed.
"""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

from api.server import head
from api.server.body import BodyReceiver
from api.server.connection import NEVER, Connection, Phase
from api.server.connections import READ, Connections
from api.server.error_pages import build_page
from api.server.exchange import Outcome
from api.server.hooks import RequestHooks
from api.server.lingering import Lingering
from api.server.options import DropReason, ServerLimits
from api.server.peers import PeerPolicy
from api.server.room import UploadRoom
from api.server.streaming import Streaming
from shared.errors import BodyTooLarge, GatewayStopping, MaskmillError, RequestTimeout, UnreadableBody, UploadsFull

log = structlog.get_logger()

HEAD_READ_BYTES = 64 * 1024
# Before it is another connection's turn.
MAX_BODY_READS = 4
# As in gunicorn: a client may be sending a request on an idle connection when the process is told to stop.
STOP_IDLE_SECONDS = 2.0

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Protocol:
    """HTTP/1.0 and 1.1 for all connections of one process."""

    def __init__(
        self,
        connections: Connections,
        limits: ServerLimits,
        peers: PeerPolicy,
        hooks: RequestHooks,
        *,
        cfg: Any,
        clock: Callable[[], float],
    ) -> None:
        self._connections = connections
        self._limits = limits
        self._peers = peers
        self._hooks = hooks
        self._cfg = cfg
        self._clock = clock
        self._room = UploadRoom(
            connections.uploads, limits, refuse=partial(self._attempt, Protocol._refuse_upload), clock=clock
        )
        self._streaming = Streaming(connections, limits.transfer, clock=clock)
        self._lingering = Lingering(connections, limits.linger_seconds, clock=clock)
        self.is_stopping = False

    def begin(self, connection: Connection) -> None:
        """Begin with a connection that was accepted; its first bytes are often here already."""
        self._connections.wait_for_client(connection, Phase.HEAD, self._clock() + self._limits.header_seconds)
        self.handle(connection)

    def handle(self, connection: Connection) -> None:
        """Go on with a connection whose socket is ready."""
        if connection.phase is not Phase.CLOSED:
            self._attempt(_HANDLERS[connection.phase], connection)

    def finish(self, connection: Connection, future: "Future[Outcome]") -> None:
        """Go on with a connection after its request has run."""
        self._attempt(lambda _, one: self._finish(one, future.result()), connection)

    def push(self, connection: Connection) -> None:
        """Go on with a connection for which the app has pushed more of the response, or has ended it."""
        if connection.phase is Phase.STREAMING:
            self._attempt(Protocol._push, connection)

    def expire(self, connection: Connection) -> None:
        """Go on with a connection whose deadline has passed."""
        self._attempt(Protocol._expire, connection)

    def stop(self) -> None:
        """Close connections after their responses from now on, and idle ones shortly."""
        self.is_stopping = True
        deadline = self._clock() + STOP_IDLE_SECONDS
        for connection in self._connections.list_all():
            if connection.is_idle:
                connection.deadline = min(connection.deadline, deadline)

    def refuse_incomplete(self) -> None:
        """Answer the requests that have begun to come and have not come to their end."""
        for connection in self._connections.list_all():
            if connection.phase is Phase.BODY:
                self._attempt(lambda protocol, one: protocol._run(one, GatewayStopping()), connection)
            elif connection.phase is Phase.HEAD and not connection.is_idle:
                page = build_page(HTTPStatus.SERVICE_UNAVAILABLE, GatewayStopping())
                self._attempt(partial(Protocol._answer, page=page), connection)

    def _attempt(self, action: "Callable[[Protocol, Connection], None]", connection: Connection) -> None:
        """Call, and close the connection if that fails: no connection may end the loop."""
        try:
            action(self, connection)
        except (OSError, CancelledError):
            self._connections.close(connection)
        except Exception:
            log.exception("connection_failed", phase=connection.phase)
            self._connections.close(connection)

    # Reading the head.

    def _read_idle(self, connection: Connection) -> None:
        self._read_head(connection)
        if connection.phase is Phase.IDLE and connection.received:
            self._connections.wait_for_client(connection, Phase.HEAD, self._clock() + self._limits.header_seconds)

    def _read_head(self, connection: Connection) -> None:
        data = connection.receive(HEAD_READ_BYTES)
        if data == b"":
            self._connections.close(connection)
        elif data:
            connection.received += data
            self._advance(connection)
        else:
            self._connections.watch(connection, READ)

    def _advance(self, connection: Connection) -> None:
        """Parse the head if it is complete, or if it never can be, to get its error."""
        received, searched = connection.received, connection.searched
        length = head.find_end(received, searched)
        if length < 0:
            if not head.is_refusable(received, searched, self._cfg.limit_request_line):
                connection.searched = len(received)
                self._wait_for_more_head(connection)
                return
            length = len(received)
        connection.number += 1
        try:
            request = head.parse_head(bytes(received[:length]), self._cfg, connection.address, connection.number)
        except ParseException as error:
            self._answer(connection, self._hooks.render_error(None, connection.address, error))
            return
        del received[:length]
        connection.searched = 0
        connection.release_head()
        self._connections.uploads.remove(connection)
        connection.request = request
        if connection.peer is None:
            connection.uploader = self._peers.identify_forwarded(head.get_last_value(request, "X-FORWARDED-FOR"))
        self._begin_body(connection)

    def _wait_for_more_head(self, connection: Connection) -> None:
        if self._room.reserve_head(connection):
            self._connections.watch(connection, READ)
        else:
            self._refuse_upload(connection)

    def _refuse_upload(self, connection: Connection) -> None:
        if connection.phase is Phase.BODY:
            self._run(connection, UploadsFull())
        else:
            self._answer(connection, build_page(HTTPStatus.TOO_MANY_REQUESTS, UploadsFull()))

    # Reading the body.

    def _begin_body(self, connection: Connection) -> None:
        length = head.get_body_length(connection.request)
        if length == 0:
            self._run(connection, None)
            return
        refusal = self._check_body(connection, length)
        if refusal is not None:
            self._run(connection, refusal)
            return
        if connection.request._expected_100_continue and not connection.received:
            connection.unsent.append(memoryview(_CONTINUE))
            connection.send()
            if connection.unsent:
                raise BrokenPipeError("the client reads nothing")
        self._take_body(connection, bytes(connection.received))
        if connection.phase is Phase.BODY:
            # It often follows at once.
            self._read_body(connection)

    def _check_body(self, connection: Connection, length: int | None) -> MaskmillError | None:
        """Prepare to receive the body; return the error of one that is not read."""
        if length is not None and length > self._limits.max_body_bytes:
            return BodyTooLarge("The request body is larger than this service takes.")
        is_here = length is not None and length <= len(connection.received)
        if not is_here:
            refusal = self._hooks.refuse(head.get_header(connection.request, "AUTHORIZATION"))
            if refusal is not None:
                return refusal
        reservation = self._room.open_reservation()
        connection.body = BodyReceiver(
            length, self._limits.max_body_bytes, reservation, partial(self._room.reserve, connection, reservation)
        )
        return None

    def _read_body(self, connection: Connection) -> None:
        for _ in range(MAX_BODY_READS):
            assert connection.body is not None
            data = connection.receive(connection.body.wanted_bytes)
            if data is None:
                return
            if not data:
                self._run(connection, connection.body.describe_cut())
                return
            connection.deadline = self._limits.transfer.extend(connection.deadline, self._clock(), len(data))
            self._take_body(connection, data)
            if connection.phase is not Phase.BODY:
                return

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
            self._connections.wait_for_client(connection, Phase.BODY, self._limits.transfer.start(self._clock()))
        self._connections.watch(connection, READ)

    # Running the request, and sending the response.

    def _run(self, connection: Connection, refusal: MaskmillError | None) -> None:
        self._connections.stop_waiting(connection)
        self._connections.watch(connection, 0)
        connection.phase, connection.deadline = Phase.RUNNING, NEVER
        if refusal is not None:
            connection.release_body()
            connection.received.clear()
        connection.is_last = not self._room.reserve_further(connection)
        if connection.is_last:
            connection.received.clear()
        self._hooks.dispatch(connection, refusal)

    def _finish(self, connection: Connection, outcome: Outcome) -> None:
        connection.release_request()
        connection.keeps_alive = outcome.keeps_alive
        connection.unsent = outcome.unsent
        if outcome.body is None:
            self._settle(connection)
        else:
            self._streaming.begin(connection, outcome.body, wake=partial(self._hooks.wake, connection))

    def _push(self, connection: Connection) -> None:
        if self._streaming.push(connection):
            self._settle(connection)

    def _answer(self, connection: Connection, page: bytes) -> None:
        """Answer without the app, and close."""
        self._connections.stop_waiting(connection)
        connection.release()
        connection.keeps_alive = False
        connection.received.clear()
        connection.unsent.append(memoryview(page))
        connection.send()
        self._settle(connection)

    def _write(self, connection: Connection) -> None:
        sent = connection.send()
        connection.deadline = self._limits.transfer.extend(connection.deadline, self._clock(), sent)
        self._connections.count_sent(connection, sent)
        if not connection.unsent:
            self._connections.stop_writing(connection)
            self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Wait for the client: to read the rest of the response, to send its next request, or to close."""
        if connection.unsent:
            self._connections.wait_for_reader(connection, self._limits.transfer.start(self._clock()))
        elif not connection.keeps_alive:
            self._lingering.begin(connection)
        elif connection.received:
            self._connections.wait_for_client(connection, Phase.HEAD, self._clock() + self._limits.header_seconds)
            self._advance(connection)
        else:
            seconds = STOP_IDLE_SECONDS if self.is_stopping else self._limits.keep_alive_seconds
            self._connections.wait_for_client(connection, Phase.IDLE, self._clock() + seconds)
            self._connections.watch(connection, READ)

    def _expire(self, connection: Connection) -> None:
        match connection.phase:
            case Phase.HEAD if connection.received:
                self._connections.count_drop(DropReason.HEADER_TIMEOUT)
                connection.is_late = True
                self._answer(connection, build_page(HTTPStatus.REQUEST_TIMEOUT, _too_slow()))
            case Phase.HEAD:
                self._connections.drop(connection, DropReason.HEADER_TIMEOUT)
            case Phase.BODY:
                self._connections.count_drop(DropReason.BODY_TIMEOUT)
                connection.is_late = True
                self._run(connection, _too_slow())
            case Phase.WRITING | Phase.STREAMING:
                self._connections.drop(connection, DropReason.READ_TIMEOUT)
            case Phase.LINGERING:
                self._connections.drop(connection, DropReason.LINGER_TIMEOUT)
            case _:
                self._connections.close(connection)


_HANDLERS: dict[Phase, Callable[[Protocol, Connection], None]] = {
    Phase.IDLE: Protocol._read_idle,
    Phase.HEAD: Protocol._read_head,
    Phase.BODY: Protocol._read_body,
    Phase.STREAMING: lambda protocol, one: protocol._streaming.handle(one),
    Phase.WRITING: Protocol._write,
    Phase.LINGERING: lambda protocol, one: protocol._lingering.discard(one),
}


def _too_slow() -> RequestTimeout:
    # A new one each time: an error that is raised again keeps the frames of its earlier tracebacks.
    return RequestTimeout("The request came too slowly; send it again over a faster connection.")
