"""A worker that images of certain sizes kill:  python -m tests.support.poisoned_worker

One size kills the host process that has decoded it, the other the engine process that has it in a batch, both by
SIGKILL, as the kernel does when memory is short.  The segmenter is a fake whose batches take a moment; everything else
is the real worker's.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from shared.errors import MaskmillError
from tests.bench import instant_worker
from tests.support.jobs import FakeSegmenter
from worker import host, main
from worker.decoding.decoded_image import DecodedImage
from worker.decoding.decoders import Decoders
from worker.decoding.request import ImageRequest
from worker.segmenter import Prepared, Segmentation

# Width and height of an image in pixels.
KILLS_HOST = (13, 7)
KILLS_ENGINE = (17, 7)
# So that a batch is on the device, and others wait for it, when the process is killed.
BATCH_SECONDS = 0.1
AS_HOST = "host"


class PoisonedDecoders(Decoders):
    """Decoders in a host process that ends with an image of the size KILLS_HOST."""

    def decode(
        self,
        data: bytes,
        request: ImageRequest,
        *,
        on_slow: Callable[[], object] = lambda: None,
        check: Callable[[], object] = lambda: None,
    ) -> DecodedImage:
        decoded = super().decode(data, request, on_slow=on_slow, check=check)
        kill_on(KILLS_HOST, (decoded.width, decoded.height))
        return decoded


class PoisonedSegmenter(FakeSegmenter):
    """A segmenter in an engine process that ends with an image of the size KILLS_ENGINE."""

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        time.sleep(BATCH_SECONDS)
        for prepared in batch:
            kill_on(KILLS_ENGINE, (prepared.width, prepared.height))
        return super().segment(batch)


def kill_on(poison: tuple[int, int], size: tuple[int, int]) -> None:
    """End this process if an image has the size of a poison."""
    if size == poison:
        os.kill(os.getpid(), signal.SIGKILL)


def build_host_command(worker_id: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.poisoned_worker", AS_HOST, worker_id]


def run(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM, as the engine or as one of its hosts.

    The names that the modules of the worker look up are replaced in this process alone, which is made for that.
    """
    if arguments[:1] == [AS_HOST]:
        host.Decoders = PoisonedDecoders  # type: ignore[attr-defined]
        return host.main(arguments[1:])
    main.build_host_command = build_host_command  # type: ignore[attr-defined]
    return instant_worker.run(PoisonedSegmenter())


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
