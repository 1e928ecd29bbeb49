"""Composition root of the steward, the reconciler role; it needs no torch and no Celery:

python -m worker.steward
"""

import signal
from collections.abc import Sequence
from contextlib import ExitStack

import structlog
from prometheus_client import CollectorRegistry

from shared.broker.queues import JobQueue
from shared.errors import LayoutMismatch, Unavailable
from shared.jobs.store import JobStore, open_job_store
from shared.layout import check_layouts
from shared.logs import configure_logging
from shared.redis_client import connect
from shared.settings import list_unknown, read_settings
from shared.storage.bucket import check_credentials, open_bucket
from worker.runtime.health_server import HealthServer
from worker.settings import StewardSettings
from worker.steward.duties import Duty, DutyScheduler
from worker.steward.metrics import StewardMetrics
from worker.steward.orphans import OrphanDetector
from worker.steward.purges import PurgeCompletion
from worker.steward.reconciler import Reconciler
from worker.steward.recovery import InboxRecovery
from worker.steward.retention import Retention

log = structlog.get_logger()

STOP_TIMEOUT_SECONDS = 5.0
END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    """Run the steward until SIGTERM or SIGINT."""
    # Before any thread starts, which would inherit the default action.  A handler could interrupt the thread whose lock
    # it needs, so the signals are waited for instead.
    signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)
    settings = read_settings(StewardSettings)
    configure_logging(settings, process="steward")
    if unknown := list_unknown():
        log.warning("unknown_settings", names=unknown)
    check_credentials(settings)
    check_layout(settings)
    registry = CollectorRegistry()
    jobs = open_job_store(connect(settings), settings)
    scheduler = DutyScheduler(build_duties(settings, jobs, StewardMetrics(registry)))
    with ExitStack() as stack:
        if settings.probe_port:
            stack.callback(start_health_server(settings, registry, jobs).stop)
        scheduler.start()
        log.info("steward_ready")
        signal.sigwait(END_SIGNALS)
        scheduler.stop()
        scheduler.join(STOP_TIMEOUT_SECONDS)
    return 0


def check_layout(settings: StewardSettings) -> None:
    """End the process in one line if a store holds data of another layout; one that does not answer is not checked."""
    try:
        check_layouts(settings, open_bucket(settings, retries=1))
    except LayoutMismatch as error:
        raise SystemExit(f"The steward cannot start: {error}") from None


def build_duties(settings: StewardSettings, jobs: JobStore, metrics: StewardMetrics) -> Sequence[Duty]:
    """Return the table of periodic duties."""
    bucket = open_bucket(settings, retries=1)
    queue = JobQueue(connect(settings))
    reconciler = Reconciler(jobs, bucket, queue, OrphanDetector(settings.orphaned_after_seconds), metrics)
    recovery = InboxRecovery(jobs, bucket, metrics, settings.inbox_grace_seconds)
    retention = Retention(jobs, bucket, metrics, settings.result_ttl_seconds)
    purges = PurgeCompletion(jobs, bucket, metrics)
    return (
        Duty("requeue_stalled", settings.requeue_interval_seconds, reconciler.requeue_stalled),
        Duty("requeue_delayed", settings.requeue_interval_seconds, reconciler.requeue_delayed),
        Duty("republish_orphaned", settings.requeue_interval_seconds, reconciler.republish_orphaned),
        Duty("recover_jobs", settings.recovery_interval_seconds, recovery.recover_jobs),
        Duty("delete_expired", settings.retention_interval_seconds, retention.delete_expired),
        Duty("complete_purges", settings.purge_interval_seconds, purges.complete_purges),
    )


def start_health_server(settings: StewardSettings, registry: CollectorRegistry, jobs: JobStore) -> HealthServer:
    """Serve health and metrics; ready means that Redis answers."""

    def reaches_redis() -> bool:
        try:
            jobs.check()
        except Unavailable:
            return False
        return True

    try:
        server = HealthServer(
            (settings.probe_host, settings.probe_port), registry, is_healthy=lambda: True, is_ready=reaches_redis
        )
    except OSError as error:
        raise SystemExit(f"The steward cannot start: {error}") from None
    server.start()
    return server
