"""The client's connection, as one end of a socket pair."""

import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from flask import Flask

from api.http.connection import is_client_connected, wait_for_disconnect

LONG_SECONDS = 60.0


@pytest.fixture
def client_socket() -> Iterator[socket.socket]:
    """The client's end of a connection; the gateway's end is in the environment of the current request."""
    client, server = socket.socketpair()
    with client, server, Flask("test").test_request_context(environ_overrides={"gunicorn.socket": server}):
        yield client


def test_an_open_connection_is_connected(client_socket: socket.socket) -> None:
    assert is_client_connected()


def test_a_closed_connection_is_not_connected(client_socket: socket.socket) -> None:
    client_socket.close()

    assert not is_client_connected()


def test_the_wait_for_an_open_connection_ends_at_its_timeout(client_socket: socket.socket) -> None:
    started = time.monotonic()

    assert not wait_for_disconnect(0.05)
    assert time.monotonic() - started >= 0.05


def test_a_closed_connection_is_reported_at_once(client_socket: socket.socket) -> None:
    client_socket.close()

    assert wait_for_disconnect(LONG_SECONDS)


def test_a_disconnect_ends_the_wait(client_socket: socket.socket) -> None:
    closing = threading.Timer(0.05, client_socket.close)
    closing.start()

    assert wait_for_disconnect(LONG_SECONDS)
    closing.join()


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux has POLLRDHUP")
@pytest.mark.parametrize("unread", [b"\r\n", b"GET /healthz HTTP/1.1\r\n"])
def test_a_disconnect_behind_unread_bytes_is_seen_and_ends_the_wait(
    client_socket: socket.socket, unread: bytes
) -> None:
    client_socket.sendall(unread)
    assert is_client_connected()
    client_socket.close()

    assert not is_client_connected()
    assert wait_for_disconnect(LONG_SECONDS)


def test_unread_bytes_do_not_end_the_wait(client_socket: socket.socket) -> None:
    client_socket.sendall(b"GET /healthz HTTP/1.1\r\n")

    assert not wait_for_disconnect(0.02)


def test_without_a_socket_the_client_stays_connected() -> None:
    started = time.monotonic()

    with Flask("test").test_request_context():
        assert is_client_connected()
        assert not wait_for_disconnect(0.02)

    assert time.monotonic() - started >= 0.02
