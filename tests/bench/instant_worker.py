"""A worker whose model answers at once:  python -m tests.bench.instant_worker

All else is the real worker's: Celery, leases, batches, rendering, storing.
"""

import os
import sys
from contextlib import ExitStack

from prometheus_client import CollectorRegistry

from shared.catalogue import Catalogue, WorkerState, WorkerStatus
from shared.logs import configure_logging
from shared.redis_client import connect
from shared.settings import read_settings
from tests.jobs import Halves
from worker.engine import Engine
from worker.heartbeat import Heartbeat
from worker.main import limits_of, serve
from worker.metrics import WorkerMetrics
from worker.settings import WorkerSettings


def main() -> int:
    """Serve until SIGTERM."""
    settings = read_settings(WorkerSettings)
    status = WorkerStatus(f"instant-{os.getpid()}", Halves.model, WorkerState.LOADING, device=Halves.device)
    configure_logging(settings, process="worker", worker=status.id)
    metrics = WorkerMetrics(CollectorRegistry())
    heartbeat = Heartbeat(Catalogue(connect(settings)), status)
    engine = Engine(Halves(), limits_of(settings), observer=metrics, stuck_after_seconds=settings.stuck_after_seconds)
    with ExitStack() as stack:
        stack.callback(heartbeat.stop)
        heartbeat.start()
        engine.start().result()
        stack.callback(engine.stop, timeout_seconds=1)
        serve(settings, engine, Halves(), heartbeat, metrics, stack)
    return 0


if __name__ == "__main__":
    sys.exit(main())
