"""Asks a process in this container whether it is ready, for Docker:  python -IS shared/probe.py PORT

It imports nothing but sockets: Docker starts it every few seconds, and an HTTP client takes longer to import than all
the rest.
"""

import socket
import sys

_HOST = "127.0.0.1"
_TIMEOUT_SECONDS = 3.0


def main(port: int) -> int:
    """Return 0 if /readyz answers 200, or 1."""
    request = f"GET /readyz HTTP/1.1\r\nHost: {_HOST}:{port}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((_HOST, port), _TIMEOUT_SECONDS) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as response:
            status_line = response.readline(1024)
    return 0 if status_line.split()[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
