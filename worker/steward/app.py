"""Composition root of the steward, the reconciler role; it needs no torch and no Celery:

python -m worker.steward
"""

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import structlog
from prometheus_client import CollectorRegistry

from shared.broker.queues import JobQueue
from shared.errors import Unavailable, UnusableStores
from shared.jobs.store import JobStore, open_job_store
from shared.logs import configure_logging
from shared.readiness import ReadinessChecks, list_store_checks
from shared.redis_client import connect
from shared.setting_names import log_unknown
from shared.settings import read_settings
from shared.stack import RENEWAL_INTERVAL_SECONDS, StackIdentity, locate_bucket
from shared.storage.bucket import Bucket, check_credentials, open_bucket
from shared.store_check import StoreCheck, check_at_start, open_store_check
from shared.store_health import open_store_health
from worker.runtime.health_server import READY_TIMEOUT_SECONDS, HealthServer
from worker.settings import StewardSettings
from worker.steward.duties import Duty, DutyScheduler
from worker.steward.metrics import StewardMetrics
from worker.steward.orphans import OrphanDetector
from worker.steward.purges import PurgeCompletion
from worker.steward.reconciler import Reconciler
from worker.steward.recovery import InboxRecovery
from worker.steward.retention import Retention
from worker.steward.stack_guard import StackGuard

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
    log_unknown()
    check_credentials(settings)
    client, bucket = connect(settings), open_bucket(settings, retries=1)
    check = open_store_check(settings, client, bucket)
    check_stores(check)
    registry = CollectorRegistry()
    jobs = open_job_store(client, settings)
    identity = StackIdentity(client, bucket, locate_bucket(settings))
    guard = StackGuard(check, identity, end=end_process)
    scheduler = DutyScheduler(build_duties(settings, jobs, bucket, guard, StewardMetrics(registry)))
    with ExitStack() as stack:
        if settings.probe_port:
            stack.callback(start_health_server(settings, registry).stop)
        # Before the duties, which would otherwise be interrupted once.
        with suppress(Unavailable):
            guard.renew()
        scheduler.start()
        log.info("steward_ready")
        signal.sigwait(END_SIGNALS)
        scheduler.stop()
        scheduler.join(STOP_TIMEOUT_SECONDS)
        guard.release()
    return 1 if guard.has_failed else 0


def end_process() -> None:
    """End this process as SIGTERM does, from any of its threads."""
    os.kill(os.getpid(), signal.SIGTERM)


def sleep_unless_ended(seconds: float) -> None:
    """Wait, and end this process if it gets one of END_SIGNALS, which are blocked."""
    if signal.sigtimedwait(END_SIGNALS, seconds):
        raise SystemExit(0)


def check_stores(check: StoreCheck) -> None:
    """End the process in one line if it must not use its stores; one that does not answer is not checked."""
    try:
        check_at_start(check, sleep=sleep_unless_ended)
    except UnusableStores as error:
        raise SystemExit(f"The steward cannot start: {error}") from None


def build_duties(
    settings: StewardSettings, jobs: JobStore, bucket: Bucket, guard: StackGuard, metrics: StewardMetrics
) -> Sequence[Duty]:
    """Return the table of periodic duties; those that list the bucket wait until it is known to be of this stack."""
    queue = JobQueue(connect(settings))
    reconciler = Reconciler(jobs, bucket, queue, OrphanDetector(settings.orphaned_after_seconds), metrics)
    recovery = InboxRecovery(jobs, bucket, metrics, settings.inbox_grace_seconds)
    retention = Retention(jobs, bucket, metrics, settings.result_ttl_seconds)
    purges = PurgeCompletion(jobs, bucket, metrics)
    return (
        Duty("renew_stack", RENEWAL_INTERVAL_SECONDS, guard.renew),
        Duty("requeue_stalled", settings.requeue_interval_seconds, reconciler.requeue_stalled),
        Duty("requeue_delayed", settings.requeue_interval_seconds, reconciler.requeue_delayed),
        Duty("republish_orphaned", settings.requeue_interval_seconds, reconciler.republish_orphaned),
        Duty("recover_jobs", settings.recovery_interval_seconds, guard.require(recovery.recover_jobs)),
        Duty("delete_expired", settings.retention_interval_seconds, guard.require(retention.delete_expired)),
        Duty("complete_purges", settings.purge_interval_seconds, guard.require(purges.complete_purges)),
    )


def start_health_server(settings: StewardSettings, registry: CollectorRegistry) -> HealthServer:
    """Serve health and metrics; ready means that both stores answer."""
    checks = ReadinessChecks(list_store_checks(open_store_health(settings)), READY_TIMEOUT_SECONDS)
    try:
        server = HealthServer(
            (settings.probe_host, settings.probe_port), registry, is_healthy=lambda: True, check_readiness=checks.run
        )
    except OSError as error:
        raise SystemExit(f"The steward cannot start: {error}") from None
    server.start()
    return server
