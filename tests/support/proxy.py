"""An HTTP proxy that refuses every request and keeps what it was asked for, and an environment that names it."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

_NAMES = ("http_proxy", "https_proxy", "all_proxy")
NAMES = (*_NAMES, *(name.upper() for name in _NAMES))
EXCEPTIONS = ("no_proxy", "NO_PROXY")


@dataclass
class RecordingProxy:
    """Its address, and the first line of each request."""

    url: str
    requests: list[str] = field(default_factory=list)


@contextmanager
def serve_proxy() -> Iterator[RecordingProxy]:
    """Run a proxy on a free port of loopback."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            # A client that opens a connection and closes it has asked for nothing.
            if line := self.rfile.readline(1000).decode(errors="replace").strip():
                recording.requests.append(line)
                self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        recording = RecordingProxy(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield recording
        server.shutdown()


def use_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Name a proxy in the environment, in lower and upper case, without exceptions."""
    for name in NAMES:
        monkeypatch.setenv(name, url)
    for name in EXCEPTIONS:
        monkeypatch.delenv(name, raising=False)
