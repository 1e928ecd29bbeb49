"""The template: a process of one thread that forks decoders.  `python -m worker.decoding.template FD POOL_FD POOL_SIZE`

A host has many threads and cannot fork safely, and starting an interpreter takes a hundred times longer than a fork.
The template has imported what decoders need and inherits the host's pool of shared memory.  It ends when the host
closes the connection; decoders end with it.  It imports no torch and nothing else of the worker.
"""

import gc
import os
import select
import signal
import socket
import struct
import sys
import traceback
import warnings
from collections.abc import Sequence

from worker.decoding.decoder import Decoder, serve
from worker.decoding.limits import end_with_parent, load_libc, prefer_for_out_of_memory, private_bytes
from worker.slabs import SlabPool

COMMAND = struct.Struct("<ci")  # what to do, and the decoder's process id
ANSWER = struct.Struct("<i")
FORK, STATUS = b"f", b"s"
NO_PROCESS = -1
NOT_A_CHILD = 1 << 30  # no status of a process is as large
# Its images are less urgent than what host and engine do with those that are decoded.
_NICENESS = 5
_IDLE_SECONDS = 30.0
_REAP_INTERVAL_SECONDS = 1.0
_MAX_STATUSES = 256


class Template:
    """Forks decoders and collects the statuses of those that ended, for a host at the other end of a connection."""

    def __init__(self, connection: socket.socket, pool: SlabPool) -> None:
        self._connection = connection
        self._pool = pool
        self._libc = load_libc()
        self._children: set[int] = set()
        self._statuses: dict[int, int] = {}

    def run(self) -> None:
        """Answer commands until the host closes the connection."""
        while True:
            timeout = _REAP_INTERVAL_SECONDS if self._children else None
            if select.select([self._connection], [], [], timeout)[0]:
                command, descriptors, _, _ = socket.recv_fds(self._connection, COMMAND.size, 1)
                if len(command) < COMMAND.size:
                    return
                kind, pid = COMMAND.unpack(command)
                result = self._fork(socket.socket(fileno=descriptors[0])) if kind == FORK else self._find_status(pid)
                self._connection.sendall(ANSWER.pack(result))
            self._reap()

    def _fork(self, connection: socket.socket) -> int:
        template = os.getpid()
        try:
            pid = os.fork()
        except OSError:  # a limit of processes or of memory: the decoders that run go on
            connection.close()
            return NO_PROCESS
        if not pid:
            try:
                self._decode(connection, template)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        connection.close()
        self._children.add(pid)
        self._statuses.pop(pid, None)
        return pid

    def _decode(self, connection: socket.socket, template: int) -> None:
        """Run a decoder, in the child."""
        end_with_parent(self._libc, template)
        self._connection.close()
        prefer_for_out_of_memory()
        serve(connection, Decoder(self._pool, private_bytes()), idle_seconds=_IDLE_SECONDS)

    def _find_status(self, pid: int) -> int:
        """Return the wait status of a decoder, which is killed unless it has ended."""
        if pid in self._children:
            os.kill(pid, signal.SIGKILL)
            self._collect(os.waitpid(pid, 0))
        return self._statuses.pop(pid, NOT_A_CHILD)

    def _reap(self) -> None:
        """Collect the decoders that have ended, so that none stays as a zombie."""
        while self._children:
            ended = os.waitpid(-1, os.WNOHANG)
            if not ended[0]:
                return
            self._collect(ended)

    def _collect(self, ended: tuple[int, int]) -> None:
        pid, status = ended
        self._children.discard(pid)
        self._statuses[pid] = status
        if len(self._statuses) > _MAX_STATUSES:  # those of decoders that ended in order are never read
            del self._statuses[next(iter(self._statuses))]


def main(arguments: Sequence[str]) -> int:
    descriptor, pool_descriptor, pool_size = map(int, arguments)
    # A terminal or a supervisor signals the whole group; the host drains, and its jobs need their decoders.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    warnings.simplefilter("ignore")  # Pillow's, about the files of clients
    os.nice(_NICENESS)
    connection = socket.socket(fileno=descriptor)
    pool = SlabPool.attach(pool_descriptor, pool_size)
    gc.collect()
    gc.freeze()  # the collector of a child does not write to pages that it shares with the template
    Template(connection, pool).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
