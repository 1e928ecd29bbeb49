"""Gunicorn's master process, with an orderly end of listening."""

import ctypes
import socket
import struct
from contextlib import suppress
from typing import Any

from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]

# Of Linux; the module `socket` has no name for it.
_SO_ATTACH_FILTER = 26
# A program of the classic Berkeley Packet Filter that drops what opens a connection (SYN without ACK) and passes the
# rest: load byte 13 of the TCP header, its flags; mask both; compare; drop; pass.
_DROP_NEW = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


class GatewayArbiter(Arbiter):  # type: ignore[misc]
    """Has the system complete no further connection before its processes accept the backlog, and close the socket.

    One that came between the two would be reset.  Its client now asks again a second later, and is refused.
    """

    def stop(self, graceful: bool = True) -> None:
        for listener in self.LISTENERS:
            drop_new_connections(listener)
        super().stop(graceful)


def drop_new_connections(listener: Any) -> None:
    """Ignore clients that want to connect to a listening TCP socket from now on, in all processes that share it."""
    if isinstance(listener.getsockname(), str):  # a Unix socket
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _DROP_NEW))
    # Other systems than Linux have no such filter, and the short time in which it matters.
    with suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_NEW), ctypes.addressof(program))
        )
