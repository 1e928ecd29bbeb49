"""Composition root of the housekeeping worker, a Celery worker with its own beat and without torch:

    python -m worker.steward

Several may run: what they do is atomic, so they only share the work.
"""

import sys
import uuid
from collections.abc import Callable
from contextlib import ExitStack

import structlog
from celery import Celery
from celery.beat import EmbeddedService
from prometheus_client import CollectorRegistry

from shared.broker.app import consume, make_celery
from shared.broker.queues import JobQueue
from shared.errors import Unavailable
from shared.jobs.messages import EXPIRE_TASK, RECOVER_TASK, STEWARD_QUEUE, SWEEP_TASK
from shared.jobs.store import JobStore
from shared.logs import configure_logging
from shared.redis_client import connect
from shared.settings import read_settings
from shared.storage.bucket import open_bucket
from worker.runtime.health_server import HealthServer
from worker.settings import StewardSettings
from worker.steward.metrics import StewardMetrics
from worker.steward.reconciler import StewardServices, expire, recover, sweep

log = structlog.get_logger()


def main() -> int:
    """Run the steward until it is told to end."""
    settings = read_settings(StewardSettings)
    configure_logging(settings, process="steward")
    registry = CollectorRegistry()
    services = build(settings, registry)
    app = make_celery(settings)
    register(app, services)
    schedule(app, settings)
    with ExitStack() as stack:
        if settings.probe_port:
            stack.callback(start_probe(settings, registry, services).stop)
        # Its diary is kept in memory: the pauses are short, and a file would need a folder that can be written.
        beat = EmbeddedService(app, thread=True, scheduler_cls="celery.beat:Scheduler")
        beat.start()
        stack.callback(beat.stop)
        consume(app, queues=[STEWARD_QUEUE], threads=2, name=f"steward-{uuid.uuid4().hex[:12]}")
    return 0


def build(settings: StewardSettings, registry: CollectorRegistry) -> StewardServices:
    """Connect nothing yet; hand everything to the household."""
    client = connect(settings)
    return StewardServices(
        jobs=JobStore(
            client,
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            result_ttl_seconds=settings.result_ttl_seconds,
        ),
        bucket=open_bucket(settings, retries=1),
        queue=JobQueue(client),
        metrics=StewardMetrics(registry),
        orphaned_after_seconds=settings.orphaned_after_seconds,
        result_ttl_seconds=settings.result_ttl_seconds,
        inbox_grace_seconds=settings.inbox_grace_seconds,
    )


def register(app: Celery, services: StewardServices) -> None:
    """Tell the app what its tasks do."""
    duties: dict[str, Callable[[StewardServices], None]] = {
        SWEEP_TASK: sweep,
        RECOVER_TASK: recover,
        EXPIRE_TASK: expire,
    }
    for name, duty in duties.items():
        app.task(name=name)(_until_next_time(name, duty, services))


def schedule(app: Celery, settings: StewardSettings) -> None:
    """Let beat send each task in its rhythm; one that nobody took by the time of the next is dropped."""
    pauses = {
        SWEEP_TASK: settings.requeue_interval_seconds,
        RECOVER_TASK: settings.recovery_interval_seconds,
        EXPIRE_TASK: settings.retention_interval_seconds,
    }
    app.conf.beat_scheduler = "celery.beat:Scheduler"
    app.conf.beat_schedule = {
        name: {"task": name, "schedule": pause, "options": {"queue": STEWARD_QUEUE, "expires": 2 * pause}}
        for name, pause in pauses.items()
    }
    app.conf.beat_max_loop_interval = settings.requeue_interval_seconds


def start_probe(settings: StewardSettings, registry: CollectorRegistry, services: StewardServices) -> HealthServer:
    """Serve health and metrics; ready means that Redis answers."""

    def reaches_redis() -> bool:
        try:
            services.jobs.check()
        except Unavailable:
            return False
        return True

    probe = HealthServer(
        (settings.probe_host, settings.probe_port), registry, is_healthy=lambda: True, is_ready=reaches_redis
    )
    probe.start()
    return probe


def _until_next_time(
    name: str, duty: Callable[[StewardServices], None], services: StewardServices
) -> Callable[[], None]:
    def run() -> None:
        try:
            duty(services)
        except Unavailable as error:
            # Whatever was not reached is found again by the next run.
            log.warning("duty_interrupted", duty=name, reason=str(error))

    run.__name__ = name.rpartition(".")[2]
    return run


if __name__ == "__main__":
    sys.exit(main())
