"""Threads that send images to the gateway in closed loops:  python -m tests.bench.gpu_service.load_process TASK

Prints a LoadResult as JSON when all threads have ended, which they also do when stdin is closed.  Imports only the
standard library, so that it starts in a tenth of a second.
"""

import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

LOOPBACK = "127.0.0.1"
TIMEOUT_SECONDS = 120
HEADERS: Mapping[str, str] = {"Content-Type": "image/jpeg", "x-use-cache": "false"}


@dataclass(frozen=True, slots=True)
class LoadTask:
    """What one process sends.

    port, path: of the gateway, for POST requests.
    images: folder of JPEG files, sent in turn; each thread begins with another one.
    threads: each with a connection that is kept open.
    max_requests: of each thread.
    max_seconds: no request begins later.
    """

    port: int
    path: str
    images: str
    threads: int
    max_requests: int = 10**9
    max_seconds: float = 10.0**9


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one process measured: the duration of each request, and of all together."""

    times_ms: Sequence[float]
    seconds: float


def main(arguments: Sequence[str]) -> int:
    """Run one task."""
    task = LoadTask(**json.loads(arguments[0]))
    stopped = threading.Event()
    threading.Thread(target=wait_for_stop, args=(stopped,), daemon=True).start()
    print(json.dumps(asdict(run_task(task, stopped))), flush=True)
    return 0


def wait_for_stop(stopped: threading.Event) -> None:
    """Set the event when stdin is closed."""
    # Not sys.stdin, whose lock a blocked thread holds while the interpreter ends.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    stopped.set()


def run_task(task: LoadTask, stopped: threading.Event) -> LoadResult:
    """Run all threads until each has sent its requests, the time is over or the event is set.

    Raises:
        RuntimeError: the gateway responded with an error.
    """
    images = [path.read_bytes() for path in sorted(Path(task.images).glob("*.jpg"))]
    start = time.monotonic()

    def run_thread(number: int) -> list[float]:
        return send_images(task, islice(cycle(images), number, None), stopped, end=start + task.max_seconds)

    with ThreadPoolExecutor(task.threads) as threads:
        times_ms = [elapsed_ms for one in threads.map(run_thread, range(task.threads)) for elapsed_ms in one]
    return LoadResult(times_ms, time.monotonic() - start)


def send_images(task: LoadTask, images: "islice[bytes]", stopped: threading.Event, *, end: float) -> list[float]:
    """Send images over one connection, and return the milliseconds that each request took."""
    connection = http.client.HTTPConnection(LOOPBACK, task.port, timeout=TIMEOUT_SECONDS)
    times_ms: list[float] = []
    try:
        while len(times_ms) < task.max_requests and not stopped.is_set() and time.monotonic() < end:
            start = time.perf_counter()
            send_image(connection, task.path, next(images))
            times_ms.append(1000 * (time.perf_counter() - start))
    finally:
        connection.close()
    return times_ms


def send_image(connection: http.client.HTTPConnection, path: str, image: bytes) -> None:
    """Send one request and read the response.

    Raises:
        RuntimeError: the response is an error.
    """
    connection.request("POST", path, image, HEADERS)
    response = connection.getresponse()
    body = response.read()
    if response.status >= 300:
        raise RuntimeError(f"the gateway responded {response.status}: {body[:200].decode(errors='replace')}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
