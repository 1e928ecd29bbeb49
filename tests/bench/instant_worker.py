"""A worker with a fake segmenter that returns at once:  python -m tests.bench.instant_worker [SECONDS | blobs]

Everything else is the real worker's code: host processes, Celery, leases, batching, rendering and storing.  With
SECONDS each batch takes so long; with `blobs` a segmentation has 15 segments instead of two halves.
"""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from shared.errors import MaskmillError
from shared.logs import configure_logging
from shared.redis_client import connect
from shared.settings import read_settings
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.bench.host import InstantSegmenter
from tests.support.jobs import FakeSegmenter
from worker.batching.scheduler import BatchScheduler
from worker.main import build_batch_limits, end_on_signal, open_check, serve, start_health_server, start_hosts
from worker.runtime.heartbeat import Heartbeat
from worker.runtime.metrics import WorkerMetrics
from worker.segmenter import Prepared, Segmentation, Segmenter
from worker.settings import WorkerSettings


@dataclass(frozen=True)
class PacedSegmenter(FakeSegmenter):
    """A fake segmenter whose batches take a fixed time."""

    batch_seconds: float

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        time.sleep(self.batch_seconds)
        return super().segment(batch)


def build_segmenter(kind: str) -> Segmenter:
    return InstantSegmenter() if kind == "blobs" else PacedSegmenter(float(kind))


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM."""
    return run(build_segmenter(arguments[0] if arguments else "0"))


def run(segmenter: Segmenter) -> int:
    """Serve with a segmenter until SIGTERM."""
    settings = read_settings(WorkerSettings)
    end_on_signal()
    status = WorkerStatus(
        f"instant-{os.getpid()}", FakeSegmenter.model, WorkerState.LOADING, device=FakeSegmenter.device
    )
    configure_logging(settings, process="worker", worker=status.id)
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    heartbeat = Heartbeat(WorkerRegistry(connect(settings)), status)
    scheduler = BatchScheduler(
        segmenter,
        build_batch_limits(settings),
        observer=metrics,
        batch_timeout_seconds=settings.batch_timeout_seconds,
    )
    with ExitStack() as stack:
        stack.callback(heartbeat.stop)
        heartbeat.start()
        if settings.probe_port:
            start_health_server(settings, registry, heartbeat, stack)
        hosts = start_hosts(settings, FakeSegmenter.device, heartbeat, metrics, stack)
        scheduler.start().result()
        stack.callback(scheduler.stop, timeout_seconds=1)
        serve(settings, scheduler, segmenter, heartbeat, hosts, open_check(settings), stack)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
