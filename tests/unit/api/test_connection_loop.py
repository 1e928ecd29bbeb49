"""The loop with real sockets, a clock that the test moves, and requests that run at once."""

import socket
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from api.server.connection import MAX_DISCARDED_BYTES, Connection, Listener, Phase
from api.server.exchange import Outcome
from api.server.hooks import RequestHooks
from api.server.lingering import MAX_LINGER_SECONDS
from api.server.loop import ConnectionLoop
from api.server.options import DropReason, ServerLimits
from api.server.peers import PeerPolicy, parse_networks
from api.server.push import PushedBody, PushStream
from api.server.transfer import MinimumRate
from shared.errors import MaskmillError

HEADER_SECONDS, STALL_SECONDS, KEEP_ALIVE_SECONDS, LINGER_SECONDS = 10.0, 20.0, 30.0, 2.0
LIMITS = ServerLimits(
    header_seconds=HEADER_SECONDS,
    transfer=MinimumRate(STALL_SECONDS, 1000),
    keep_alive_seconds=KEEP_ALIVE_SECONDS,
    linger_seconds=LINGER_SECONDS,
    max_body_bytes=10_000,
    max_buffered_bytes=20_000,
    max_connections=8,
    max_connections_per_peer=5,
)
GET = b"GET /a HTTP/1.1\r\n\r\n"


@dataclass
class Harness:
    """A loop, and what it did."""

    now: float = 1000.0
    limits: ServerLimits = LIMITS
    requests: list[tuple[str, bytes, MaskmillError | None]] = field(default_factory=list)
    drops: list[DropReason] = field(default_factory=list)
    response: bytes = b"done"
    is_held: bool = False
    trusted: str = ""
    pushed: PushedBody | None = None
    held: list[Connection] = field(default_factory=list)

    def __post_init__(self) -> None:
        hooks = RequestHooks(self.dispatch, lambda _: None, lambda *_: b"malformed", lambda one: self.loop.push(one))
        peers = PeerPolicy(parse_networks(self.trusted))
        self.loop = ConnectionLoop(
            self.limits, peers, hooks, cfg=Config(), count_drop=self.drops.append, clock=lambda: self.now
        )
        self.server = socket.create_server(("127.0.0.1", 0))
        self.loop.listen(Listener(self.server, self.server.getsockname(), is_internal=False))

        self.internal_server = socket.create_server(("127.0.0.1", 0))
        self.loop.listen(Listener(self.internal_server, self.internal_server.getsockname(), is_internal=True))

    def dispatch(self, connection: Connection, refusal: MaskmillError | None) -> None:
        assert connection.phase is Phase.RUNNING
        body = b"" if connection.body is None else connection.body.content.getvalue()
        self.requests.append((connection.request.uri, body, refusal))
        self.held.append(connection)

    def connect(self, sent: bytes = b"", *, is_internal: bool = False) -> socket.socket:
        server = self.internal_server if is_internal else self.server
        client = socket.create_connection(server.getsockname(), timeout=5)
        # Otherwise the kernel keeps small pieces back until the earlier ones are acknowledged.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(sent)
        self.run()
        return client

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass, and let the loop do all that there is to do."""
        self.now += seconds
        for _ in range(8):
            self.loop.step(0.001)
            while self.held and not self.is_held:
                connection = self.held.pop(0)
                future: Future[Outcome] = Future()
                is_last = self.requests[-1][2] is not None or connection.is_last
                keeps_alive = not is_last and not connection.request.should_close()
                future.set_result(Outcome(deque([memoryview(self.response)]), keeps_alive, self.pushed))
                self.loop.finish(connection, future)

    def close(self) -> None:
        self.loop.close()
        self.server.close()
        self.internal_server.close()


@contextmanager
def open_harness(**settings: Any) -> Iterator[Harness]:
    harness = Harness(**settings)
    try:
        yield harness
    finally:
        harness.close()


@pytest.fixture
def harness() -> Iterator[Harness]:
    with open_harness() as opened:
        yield opened


def is_closed(client: socket.socket) -> bool:
    """Return whether the other side has closed, after the bytes that it sent."""
    client.setblocking(False)
    try:
        while client.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


BODIES = st.binary(max_size=40)
REQUESTS = st.lists(st.tuples(st.sampled_from(["none", "length", "chunked"]), BODIES), min_size=1, max_size=5)


def encode(number: int, framing: str, body: bytes) -> bytes:
    if framing == "none":
        return b"GET /%d HTTP/1.1\r\n\r\n" % number
    if framing == "length":
        return b"POST /%d HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (number, len(body), body)
    chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
    return b"POST /%d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % (number, chunk)


@given(requests=REQUESTS, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_pipelined_requests_are_told_apart_wherever_their_bytes_are_cut(
    requests: list[tuple[str, bytes]], cuts: list[int]
) -> None:
    wire = b"".join(encode(number, *request) for number, request in enumerate(requests))
    bounds = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]

    with open_harness() as harness, harness.connect() as client:
        for start, end in pairwise(bounds):
            client.sendall(wire[start:end])
            harness.run()

        expected = [
            (f"/{number}", body if framing != "none" else b"", None) for number, (framing, body) in enumerate(requests)
        ]
        assert harness.requests == expected


@pytest.mark.parametrize("pieces", [1, 2, 3, 50])
def test_a_head_that_is_too_long_is_refused_however_it_is_cut(pieces: int) -> None:
    head = b"GET /a HTTP/1.1\r\n" + b"X: %s\r\n" % (b"a" * 7000) * 10 + b"\r\n"
    size = len(head) // pieces + 1
    limits = replace(LIMITS, max_buffered_bytes=1_000_000)
    with open_harness(limits=limits) as harness, harness.connect() as client:
        for start in range(0, len(head), size):
            client.sendall(head[start : start + size])
            harness.run()

        assert client.recv(100) == b"malformed"
        assert harness.requests == []


@pytest.mark.parametrize(
    ("sent", "seconds", "reason"),
    [
        (b"", HEADER_SECONDS, DropReason.HEADER_TIMEOUT),
        (b"GET / HTTP/1.1\r\n", HEADER_SECONDS, DropReason.HEADER_TIMEOUT),
        (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", STALL_SECONDS, DropReason.BODY_TIMEOUT),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n9", STALL_SECONDS, DropReason.BODY_TIMEOUT),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", LINGER_SECONDS, DropReason.LINGER_TIMEOUT),
    ],
)
def test_a_client_is_dropped_at_its_deadline_and_not_before(
    harness: Harness, sent: bytes, seconds: float, reason: DropReason
) -> None:
    with harness.connect(sent):
        harness.run(seconds - 0.1)
        before = list(harness.drops)
        harness.run(1.0)

    assert before == []
    assert harness.drops == [reason]


def test_an_idle_connection_is_closed_without_being_counted(harness: Harness) -> None:
    with harness.connect(GET) as client:
        harness.run(KEEP_ALIVE_SECONDS - 0.1)
        assert not is_closed(client)
        harness.run(1.0)
        assert is_closed(client)

    assert harness.drops == []


def test_a_response_that_is_not_read_is_dropped(harness: Harness) -> None:
    harness.response = bytes(20_000_000)
    with harness.connect(GET) as client:
        harness.run(STALL_SECONDS + 1.0)

        # The system does not go on to send it, either.
        with pytest.raises(ConnectionResetError):
            while client.recv(1 << 20):
                pass
    assert harness.drops == [DropReason.READ_TIMEOUT]


def test_the_request_of_a_trickled_body_gets_the_reason_and_no_bytes(harness: Harness) -> None:
    with harness.connect(b"POST /a HTTP/1.1\r\nContent-Length: 100\r\n\r\n") as client:
        for _ in range(6):
            client.sendall(b"x")
            harness.run(4.0)

    [(path, body, refusal)] = harness.requests
    assert (path, body) == ("/a", b"")
    assert refusal is not None and refusal.code == "request_timeout"


@pytest.mark.parametrize("beginning", [b"GET /a HTTP/1.1\r\nX: ", b"POST /a HTTP/1.1\r\nContent-Length: 100\r\n\r\n"])
def test_a_client_that_was_too_slow_does_not_gain_time_after_the_answer(harness: Harness, beginning: bytes) -> None:
    started = harness.now
    with harness.connect(beginning) as client:
        while not is_reset(client) and harness.now < started + 3 * STALL_SECONDS:
            harness.run(1.0)

    assert harness.now - started <= STALL_SECONDS + LINGER_SECONDS + 3.0


def test_a_refused_upload_may_go_on_for_a_time_but_not_for_ever(harness: Harness) -> None:
    started = harness.now
    with harness.connect(post(100_000_000, 10)) as client:
        while not is_reset(client) and harness.now < started + 3 * MAX_LINGER_SECONDS:
            harness.run(1.0)

    assert MAX_LINGER_SECONDS <= harness.now - started <= MAX_LINGER_SECONDS + 3.0
    assert harness.drops == [DropReason.LINGER_TIMEOUT]


def is_reset(client: socket.socket) -> bool:
    """Send a byte; return whether the other side has closed its socket, and not only its sending side."""
    try:
        client.send(b"a")
    except OSError:
        return True
    return False


def post(nbytes: int, sent: int, headers: bytes = b"") -> bytes:
    """Return the beginning of a request with a body."""
    return b"POST /a HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (headers, nbytes, bytes(sent))


def list_refusals(harness: Harness) -> list[str | None]:
    return [None if refusal is None else refusal.code for _, _, refusal in harness.requests]


def test_bytes_that_are_promised_keep_nobody_out(harness: Harness) -> None:
    with ExitStack() as clients:
        for _ in range(4):
            clients.enter_context(harness.connect(post(10_000, 0)))
        clients.enter_context(harness.connect(post(10_000, 10_000)))

    assert list_refusals(harness) == [None]


def test_an_upload_that_stands_still_makes_room(harness: Harness) -> None:
    with harness.connect(post(10_000, 9000)), harness.connect(post(10_000, 8000)):
        with harness.connect(post(10_000, 9500)):
            assert list_refusals(harness) == ["uploads_full"]
        harness.run(STALL_SECONDS / 2 + 1.0)
        with harness.connect(post(10_000, 10_000)):
            assert list_refusals(harness)[-1] is None

        harness.run(STALL_SECONDS + 1.0)
        with harness.connect(post(10_000, 10_000)):
            assert list_refusals(harness)[-1] is None
    assert harness.loop._connections.uploads.total == 0


def test_large_uploads_leave_room_for_small_ones(harness: Harness) -> None:
    with harness.connect(post(10_000, 9000)), harness.connect(post(10_000, 8000)), harness.connect(post(600, 600)):
        pass

    assert list_refusals(harness)[0] is None


def test_further_requests_that_have_come_are_within_the_budget() -> None:
    """A chunked body is read with what follows it."""
    last = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with open_harness(is_held=True) as harness, ExitStack() as clients:
        pipelining = [clients.enter_context(harness.connect(last + 400 * GET)) for _ in range(4)]

        assert sum(len(one.received) for one in harness.held) <= LIMITS.max_buffered_bytes
        assert [one.is_last for one in harness.held] == [False, False, True, True]
        harness.is_held = False
        for _ in range(110):
            harness.run()

        assert len(harness.requests) == 4 + 2 * 400
        assert [is_closed(client) for client in pipelining] == [False, False, True, True]
        with harness.connect(post(10_000, 10_000)), harness.connect(post(7000, 7000)):
            assert list_refusals(harness)[-2:] == [None, None]


def test_the_clients_of_a_proxy_make_room_for_each_other() -> None:
    hoarder, other = b"X-Forwarded-For: 192.0.2.1\r\n", b"X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n"
    with open_harness(trusted="127.0.0.1") as harness, ExitStack() as clients:
        for _ in range(2):
            clients.enter_context(harness.connect(post(10_000, 8500, hoarder)))
        clients.enter_context(harness.connect(post(5000, 5000, other)))

        assert list_refusals(harness) == ["uploads_full", None]


def test_the_oldest_waiting_connection_makes_room_and_running_ones_stay(harness: Harness) -> None:
    harness.is_held = True
    with ExitStack() as clients:
        running = [clients.enter_context(harness.connect(GET)) for _ in range(4)]
        waiting = [clients.enter_context(harness.connect(b"GET")) for _ in range(5)]

        assert harness.drops.count(DropReason.CONNECTION_LIMIT) >= 1
        assert is_closed(waiting[0]) and not is_closed(waiting[-1])
        assert not any(is_closed(client) for client in running)


def test_responses_that_are_not_read_make_room_for_others() -> None:
    limits = replace(LIMITS, max_buffered_bytes=1_000_000_000, max_connections_per_peer=20)
    with open_harness(response=bytes(8_000_000), limits=limits) as harness, ExitStack() as clients:
        for _ in range(LIMITS.max_connections + 2):
            clients.enter_context(harness.connect(GET))
        harness.response = b"done"

        with harness.connect(GET) as other:
            assert other.recv(100) == b"done"
        assert set(harness.drops) == {DropReason.CONNECTION_LIMIT}


def test_responses_that_are_not_read_count_to_the_bound_of_their_peer() -> None:
    limits = replace(LIMITS, max_buffered_bytes=1_000_000_000)
    with open_harness(response=bytes(8_000_000), limits=limits) as harness, ExitStack() as clients:
        for _ in range(LIMITS.max_connections_per_peer + 2):
            clients.enter_context(harness.connect(GET))

        assert harness.drops == 2 * [DropReason.PEER_LIMIT]


def test_responses_that_are_not_read_are_within_the_budget(harness: Harness) -> None:
    harness.response = bytes(8_000_000)
    with ExitStack() as clients:
        for _ in range(4):
            clients.enter_context(harness.connect(GET))

        assert harness.drops == 3 * [DropReason.UNREAD_RESPONSES]


def test_what_was_read_of_a_response_is_free_for_others() -> None:
    # More than the system's buffers take.
    nbytes = 60_000_000
    limits = replace(LIMITS, max_buffered_bytes=nbytes * 5 // 3)
    with open_harness(response=bytes(nbytes), limits=limits) as harness, harness.connect(GET) as reader:
        read_bytes(harness, reader, nbytes // 2)
        with harness.connect(GET):
            assert harness.drops == []


def test_a_response_that_is_read_slowly_is_not_dropped() -> None:
    limits = replace(LIMITS, max_buffered_bytes=1_000_000_000)
    with open_harness(response=bytes(40_000_000), limits=limits) as harness, harness.connect(GET) as reader:
        for _ in range(3):
            read_bytes(harness, reader, 10_000_000)
            harness.run(STALL_SECONDS * 3 / 4)

        assert harness.drops == []


def read_bytes(harness: Harness, client: socket.socket, nbytes: int) -> None:
    """Read so many bytes of a response."""
    while nbytes > 0:
        nbytes -= len(client.recv(1 << 20))
        harness.run()


def test_a_client_is_closed_that_sends_more_than_is_discarded(harness: Harness) -> None:
    with harness.connect(post(MAX_DISCARDED_BYTES * 2, 0)) as client:
        client.setblocking(False)
        sent, piece = 0, bytes(1 << 20)
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            while sent < MAX_DISCARDED_BYTES * 3 // 2:
                with suppress(BlockingIOError):
                    sent += client.send(piece)
                harness.loop.step(0.0)

        assert sent >= MAX_DISCARDED_BYTES


def test_heads_that_are_not_complete_are_within_the_budget(harness: Harness) -> None:
    half = b"GET /a HTTP/1.1\r\n" + b"X: %s\r\n" % (b"a" * 3000) * 3
    with harness.connect(half), harness.connect(half) as refused:
        assert refused.recv(100).startswith(b"HTTP/1.1 429 ")
        with harness.connect(b"GET / HTTP/1.1\r\n\r\n") as small:
            assert small.recv(100) == b"done"

    assert list_refusals(harness) == [None]


def test_operators_are_accepted_while_all_connections_run(harness: Harness) -> None:
    harness.is_held = True
    with ExitStack() as clients:
        for _ in range(LIMITS.max_connections + 1):
            clients.enter_context(harness.connect(GET))
        count = len(harness.requests)

        clients.enter_context(harness.connect(GET, is_internal=True))
        assert len(harness.requests) == count + 1


def test_clients_wait_in_the_backlog_while_all_connections_run(harness: Harness) -> None:
    harness.is_held = True
    with ExitStack() as clients:
        for _ in range(LIMITS.max_connections + 3):
            clients.enter_context(harness.connect(GET))
        assert len(harness.requests) == LIMITS.max_connections

        harness.is_held = False
        for _ in range(6):
            harness.run(1.0)

        assert len(harness.requests) > LIMITS.max_connections


def test_a_stop_ends_idle_connections_and_lets_a_request_complete(harness: Harness) -> None:
    with harness.connect(GET) as idle, harness.connect(b"POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nx") as uploading:
        harness.loop.stop_listening()
        harness.run(3.0)
        assert is_closed(idle)
        uploading.sendall(b"y")
        harness.run()

        assert harness.requests[-1] == ("/b", b"xy", None)
        harness.run(3.0)
    assert len(harness.loop) == 0


def open_stream(harness: Harness, *, pieces: bytes = b"") -> tuple[socket.socket, PushStream, list[str]]:
    """Send a request whose response is pushed; return the client, the stream, and what the stream was told."""
    closed: list[str] = []
    stream = PushStream(lambda: closed.append("closed"))
    harness.pushed = PushedBody(stream, is_chunked=True)
    client = harness.connect(GET)
    harness.pushed = None
    if pieces:
        stream.push(pieces)
        harness.run()
    return client, stream, closed


def test_a_pushed_response_comes_piece_by_piece_and_ends_with_its_last_chunk(harness: Harness) -> None:
    client, stream, closed = open_stream(harness)
    with client:
        assert client.recv(100) == b"done"
        # Longer than any other phase may last.
        harness.run(10 * STALL_SECONDS)
        stream.push(b"one")
        harness.run()
        assert client.recv(100) == b"3\r\none\r\n"
        stream.end()
        harness.run()

        assert client.recv(100) == b"0\r\n\r\n"
        assert is_closed(client)
    assert closed == ["closed"]
    assert harness.drops == []


def test_a_client_that_goes_away_closes_its_stream(harness: Harness) -> None:
    client, stream, closed = open_stream(harness)
    client.close()
    harness.run()

    assert closed == ["closed"]
    assert not stream.is_open or stream.take() == (b"", False)
    assert len(harness.loop) == 0


def test_a_client_that_does_not_read_what_is_pushed_is_dropped(harness: Harness) -> None:
    client, _, closed = open_stream(harness, pieces=bytes(20_000_000))
    with client:
        harness.run(STALL_SECONDS - 1)
        assert closed == []
        harness.run(2)

    assert closed == ["closed"]
    assert harness.drops == [DropReason.READ_TIMEOUT]


def test_a_client_that_reads_at_last_keeps_its_stream(harness: Harness) -> None:
    client, stream, closed = open_stream(harness, pieces=bytes(8_000_000))
    received = 0
    with client:
        while received < 8_000_000:
            harness.run(1)
            received += len(client.recv(1 << 22))
        harness.run(10 * STALL_SECONDS)
        stream.push(b"more")
        harness.run()

        assert closed == []
        assert client.recv(1 << 16).endswith(b"more\r\n")


def test_requests_that_follow_a_stream_are_not_read(harness: Harness) -> None:
    client, _, _ = open_stream(harness)
    with client:
        client.sendall(GET)
        harness.run()

    assert len(harness.requests) == 1


def test_the_end_of_the_loop_closes_streams(harness: Harness) -> None:
    client, _, closed = open_stream(harness)
    with client:
        harness.loop.close()

    assert closed == ["closed"]
