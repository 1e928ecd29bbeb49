"""A proxy that speaks TLS to clients and passes bytes on to a server, for servers that are built without TLS."""

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from deploy.keys.object_store import make_certificate

_CHUNK_BYTES = 65536


def write_certificate(folder: Path, name: str, *addresses: str) -> tuple[Path, Path]:
    """Write a self-signed certificate and its key for these host names or addresses, and return the two files."""
    certificate, key = make_certificate(name, addresses)
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    for path, text in zip(paths, (certificate, key), strict=True):
        path.write_text(text)
    return paths


@contextlib.contextmanager
def serve_tls(
    target: tuple[str, int], certificate: Path, key: Path, *, client_authority: Path | None = None
) -> Iterator[int]:
    """Yield the port of a proxy on loopback; with a `client_authority`, clients must show a certificate of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client_authority:
        context.load_verify_locations(client_authority)
        context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=_accept, args=(listener, context, target), daemon=True)
        acceptor.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join(5)


def _accept(listener: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    threads = []
    stop = threading.Event()
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            break
        threads.append(threading.Thread(target=_serve, args=(client, context, target, stop), daemon=True))
        threads[-1].start()
    stop.set()
    for thread in threads:
        thread.join(5)


def _serve(client: socket.socket, context: ssl.SSLContext, target: tuple[str, int], stop: threading.Event) -> None:
    with client, contextlib.suppress(OSError):
        client.settimeout(5)
        with context.wrap_socket(client, server_side=True) as secure, socket.create_connection(target) as server:
            secure.settimeout(None)
            _exchange(secure, server, stop)


def _exchange(secure: ssl.SSLSocket, server: socket.socket, stop: threading.Event) -> None:
    """Pass bytes on in both directions until one side closes."""
    while not stop.is_set():
        readable = [secure] if secure.pending() else select.select([secure, server], [], [], 0.2)[0]
        for source, sink in ((secure, server), (server, secure)):
            if source not in readable:
                continue
            content = source.recv(_CHUNK_BYTES)
            if not content:
                return
            sink.sendall(content)
