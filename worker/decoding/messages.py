"""Messages between a host and its decoders: a JSON object, and the bytes of a file, over a stream socket."""

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

_HEADER = struct.Struct("<II")  # lengths of the JSON object and of the bytes
_MAX_GATHERED_BYTES = 1 << 18


def send(connection: socket.socket, message: Mapping[str, Any], data: bytes = b"") -> None:
    """Send a message with one system call, or the bytes of a larger file with calls of their own.

    Raises:
        OSError: the other side has closed the connection.
    """
    text = json.dumps(message).encode()
    head = _HEADER.pack(len(text), len(data)) + text
    if len(data) <= _MAX_GATHERED_BYTES:
        connection.sendall(head + data)
    else:
        connection.sendall(head)
        connection.sendall(data)


class Reader:
    """Reads the messages of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rb")

    def receive(self) -> tuple[dict[str, Any], bytes] | None:
        """Return the next message; None if the other side has closed the connection.

        Raises:
            OSError: the connection broke.
        """
        head = self._stream.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return None
        text_length, data_length = _HEADER.unpack(head)
        text = self._stream.read(text_length)
        # Reads directly into bytes of this length: a file is in memory once.
        data = self._stream.read(data_length) if data_length else b""
        if len(text) < text_length or len(data) < data_length:
            return None
        message: dict[str, Any] = json.loads(text)
        return message, data

    def close(self) -> None:
        self._stream.close()
