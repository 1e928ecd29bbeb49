"""One complete request on its thread: the call of the app, and as much of the response as the socket takes at once.

Nothing here waits for the client.
"""

import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import Any

from gunicorn.http import wsgi  # type: ignore[import-untyped]

from api.server.budget import Reservation
from api.server.connection import send_pieces
from api.server.options import REFUSAL_KEY, RESERVATION_KEY, STREAM_KEY, WsgiApp
from api.server.push import PushedBody, StreamSlot
from shared.errors import MaskmillError


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what it runs with.

    refusal: raised when the app reads the body, which was not read to its end.
    closes: returns whether the connection cannot be used for another request; called before the response is sent.
    render_error: returns the response for an exception of the app, and logs it.
    """

    request: Any
    content: BytesIO
    reservation: Reservation | None
    refusal: MaskmillError | None
    closes: Callable[[], bool]
    client: socket.socket
    address: Any
    server: Any
    app: WsgiApp
    cfg: Any
    render_error: Callable[[Any, Any, Exception], bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """unsent: the rest of the response.  body: what comes after it, if the app pushes the response."""

    unsent: deque[memoryview]
    keeps_alive: bool
    body: PushedBody | None = None


def run_exchange(exchange: Exchange) -> Outcome:
    """Call the app and send its response.

    Raises:
        OSError: the connection is broken.
    """
    sink, slot = ResponseSink(exchange.client), StreamSlot()
    body = None
    try:
        keeps_alive, body = _call_app(exchange, sink, slot)
    except OSError:
        slot.close()
        raise
    except Exception as error:
        slot.close()
        page = exchange.render_error(exchange.request, exchange.address, error)
        if not sink.is_flushed:
            sink.pieces.clear()
            sink.sendall(page)
            sink.flush()
        keeps_alive = False
    finally:
        exchange.content.close()
        if exchange.reservation is not None:
            exchange.reservation.release()
    return Outcome(sink.pieces, keeps_alive, body)


def _call_app(exchange: Exchange, sink: "ResponseSink", slot: StreamSlot) -> tuple[bool, PushedBody | None]:
    """Write the response to the sink; return whether the connection can be used again, and what follows."""
    request = exchange.request
    # The loop has asked for the body already.
    request._expected_100_continue = False
    response, environ = wsgi.create(request, sink, exchange.address, exchange.server, exchange.cfg)
    environ |= {
        "wsgi.multithread": True,
        "wsgi.input": exchange.content,
        "gunicorn.socket": exchange.client,
        REFUSAL_KEY: exchange.refusal,
        RESERVATION_KEY: exchange.reservation,
        STREAM_KEY: slot,
    }
    chunks = exchange.app(environ, response.start_response)
    try:
        if slot.stream is not None and response.status_code != HTTPStatus.OK:
            # The app failed after it had opened the stream.
            slot.close()
            slot.stream = None
        if exchange.closes() or slot.stream is not None:
            response.force_close()
        _write_response(response, chunks, is_streamed=slot.stream is not None)
        sink.flush()
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    body = PushedBody(slot.stream, response.chunked) if slot.stream is not None else None
    return not response.should_close(), body


def _write_response(response: Any, chunks: Iterable[bytes], *, is_streamed: bool) -> None:
    """Write what the app has returned; of a stream the body follows, as it is pushed."""
    for chunk in chunks:
        response.write(chunk)
    if is_streamed:
        response.send_headers()
    else:
        response.close()


class ResponseSink:
    """Replaces the client's socket while gunicorn writes a response; collects its pieces without copying them."""

    def __init__(self, client: socket.socket) -> None:
        self.pieces: deque[memoryview] = deque()
        self.is_flushed = False
        self._client = client

    def flush(self) -> None:
        """Send as much as the socket takes now; the rest stays in `pieces`.

        Raises:
            OSError: the connection is broken.
        """
        self.is_flushed = True
        send_pieces(self._client, self.pieces)

    def sendall(self, data: bytes) -> None:
        if data:
            self.pieces.append(memoryview(data))
