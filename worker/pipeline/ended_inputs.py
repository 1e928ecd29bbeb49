"""Inputs of completed jobs leave the inbox on a thread of its own, so that no job waits for it.

An input that is left because this process ended, or because the object store did not answer, is moved by the steward,
which finds that its job is complete.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from shared.errors import Unavailable
from shared.jobs.inputs import EndedInput, InputMover
from shared.storage.bucket import Bucket

log = structlog.get_logger()

# How long an input waits for others to be moved with.
INTERVAL_SECONDS = 0.5
# S3 deletes 1000 objects in one call: an input, and its request if that was too large for the metadata.
MAX_INPUTS = 500
# Each input that is kept takes a call.
COPYING_THREADS = 8


class InputMoves:
    """Thread-safe.  close() moves the pending inputs."""

    def __init__(self, bucket: Bucket, *, input_ttl_seconds: int, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._mover = InputMover(bucket, input_ttl_seconds, self._copy_each)
        self._interval_seconds = interval_seconds
        self._pending: queue.SimpleQueue[EndedInput] = queue.SimpleQueue()
        self._added = threading.Event()
        self._closed = threading.Event()
        self._copying = ThreadPoolExecutor(COPYING_THREADS, thread_name_prefix="input-copies")
        self._thread = threading.Thread(target=self._run, name="input-moves", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Move the pending inputs, and end the threads."""
        self._closed.set()
        self._added.set()
        self._thread.join()
        self._copying.shutdown()

    def move(self, inputs: Sequence[EndedInput]) -> None:
        """Move inputs within a moment; returns at once."""
        for one in inputs:
            self._pending.put(one)
        self._added.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._added.wait()
            self._closed.wait(self._interval_seconds)
            self._added.clear()
            self._move_pending()
        self._move_pending()

    def _move_pending(self) -> None:
        while inputs := self._take():
            try:
                self._mover.move(inputs)
            except Unavailable as error:
                log.warning("inputs_not_moved", count=len(inputs), reason=str(error))

    def _take(self) -> list[EndedInput]:
        inputs: list[EndedInput] = []
        while len(inputs) < MAX_INPUTS:
            try:
                inputs.append(self._pending.get_nowait())
            except queue.Empty:
                break
        return inputs

    def _copy_each(self, copy: Callable[[EndedInput], object], inputs: Sequence[EndedInput]) -> None:
        for _ in self._copying.map(copy, inputs):
            pass
