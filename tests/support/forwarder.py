"""A port that forwards connections to another one, from when it is told to: a store that answers late."""

import socket
import threading
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Self

from deploy.local.servers import LOOPBACK, free_ports


class _Handler(BaseRequestHandler):
    target: int

    def handle(self) -> None:
        with socket.create_connection((LOOPBACK, self.target)) as server:
            threading.Thread(target=_copy, args=(server, self.request), daemon=True).start()
            _copy(self.request, server)


def _copy(source: socket.socket, destination: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(1 << 16):
            destination.sendall(chunk)
    for end in (source, destination):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


class LateForwarder:
    """Refuses connections to `url` until start()."""

    def __init__(self, target_port: int) -> None:
        (port,) = free_ports(1)
        self.url = f"http://{LOOPBACK}:{port}"
        handler = type("Handler", (_Handler,), {"target": target_port})
        self._server = _Server((LOOPBACK, port), handler, bind_and_activate=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def start(self) -> None:
        self._server.server_bind()
        self._server.server_activate()
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
