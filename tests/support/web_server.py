"""A web server on loopback whose answers a test writes as bytes, and which counts its connections."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Answer = Callable[[str, socket.socket], None]
"""Answers a request, of which it gets the target; the connection is closed after it."""

_HEAD_END = b"\r\n\r\n"


@dataclass
class WebServer:
    """`connections` counts those that were accepted; `requests` has the head of each request."""

    host: str
    port: int
    answer: Answer
    connections: int = 0
    requests: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def serve_web(answer: Answer, host: str = "127.0.0.1", port: int = 0) -> Iterator[WebServer]:
    """Yield a server that answers each request on a thread of its own."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        server = WebServer(host, listener.getsockname()[1], answer)
        acceptor = threading.Thread(target=_accept, args=(listener, server), daemon=True)
        acceptor.start()
        try:
            yield server
        finally:
            server.stopped.set()
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(5)


def _accept(listener: socket.socket, server: WebServer) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        server.connections += 1
        threading.Thread(target=_serve, args=(client, server), daemon=True).start()


def _serve(client: socket.socket, server: WebServer) -> None:
    with client, contextlib.suppress(OSError):
        client.settimeout(10)
        head = b""
        while _HEAD_END not in head:
            received = client.recv(65536)
            if not received:
                return
            head += received
        text = head.partition(_HEAD_END)[0].decode("latin-1")
        server.requests.append(text)
        server.answer(text.split(" ")[1], client)


def build_response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Return a whole answer in HTTP/1.1, with the length of its body unless a header has it."""
    if not any(header.lower().startswith("content-length:") for header in headers):
        headers = (*headers, f"Content-Length: {len(body)}")
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode() + body


def build_redirect(location: str, status: str = "302 Found") -> bytes:
    return build_response(b"", f"Location: {location}", status=status)
