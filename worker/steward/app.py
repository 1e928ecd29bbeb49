"""Composition root of the steward, the reconciler role; it needs no torch and no Celery:

python -m worker.steward
"""

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from shared.broker.queues import JobQueue
from shared.errors import Unavailable, UnusableStores
from shared.jobs.erasure import Erasures
from shared.jobs.inputs import InputMover
from shared.jobs.lists import JobLists
from shared.jobs.store import JobStore, open_job_store
from shared.jobs.survey import JobSurvey
from shared.logs import configure_logging
from shared.readiness import ReadinessChecks, list_store_checks
from shared.redis_client import connect
from shared.setting_names import log_unknown
from shared.settings import read_settings
from shared.stack import RENEWAL_INTERVAL_SECONDS, StackIdentity, locate_bucket
from shared.storage.bucket import Bucket, check_credentials, open_bucket
from shared.storage.clock import StoreClock
from shared.store_check import StoreCheck, check_at_start, open_store_check
from shared.store_health import open_store_health
from worker.runtime.health_server import READY_TIMEOUT_SECONDS, HealthServer
from worker.settings import StewardSettings
from worker.steward.deadlines import DeadlineExpiry
from worker.steward.duties import Duty, DutyScheduler
from worker.steward.duty_runs import DutyRuns
from worker.steward.erasures import DataErasure
from worker.steward.leases import DutyLeases
from worker.steward.metrics import StewardMetrics, StoreCollector
from worker.steward.orphans import OrphanDetector
from worker.steward.outages import OutageGrace
from worker.steward.parallel import run_for_each
from worker.steward.purges import PurgeCompletion
from worker.steward.reconciler import Reconciler
from worker.steward.recovery import InboxRecovery
from worker.steward.retention import Retention
from worker.steward.stack_guard import StackGuard
from worker.steward.stored_results import StoredResults
from worker.steward.webhook_erasure import WebhookErasure
from worker.steward.webhooks import Webhooks, build_webhooks

log = structlog.get_logger()

STOP_TIMEOUT_SECONDS = 5.0
RECORD_INTERVAL_SECONDS = 5.0
# It lists all that is stored.
HIDDEN_INTERVAL_SECONDS = 86400.0
RECOVERY = "recover_jobs"
ERASURE = "erase_data"
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
    clock, metrics = StoreClock(), StewardMetrics(registry)
    identity = StackIdentity(client, bucket, locate_bucket(settings), clock=clock)
    guard = StackGuard(check, identity, end=end_process)
    runs = DutyRuns(client, observe=metrics.duty_completed)
    survey = JobSurvey(client)
    registry.register(StoreCollector(runs.read, survey.measure_ages))
    leases = DutyLeases(client)
    webhooks = build_webhooks(settings, client, jobs, bucket, registry)
    stores = Stores(jobs, survey, JobLists(client), bucket, webhooks.erasure, clock)
    duties = build_duties(settings, stores, guard, metrics, leases, runs)
    scheduler = DutyScheduler([*duties, *webhooks.list_duties(guard)], leases, runs)
    with ExitStack() as stack:
        if settings.probe_port:
            stack.callback(start_health_server(settings, registry).stop)
        run_until_signal(scheduler, webhooks, leases, guard)
    return 1 if guard.has_failed else 0


def run_until_signal(scheduler: DutyScheduler, webhooks: Webhooks, leases: DutyLeases, guard: StackGuard) -> None:
    """Run the duties until SIGTERM or SIGINT; then give up all that other stewards wait for."""
    # Before the duties, which would otherwise be interrupted once.
    with suppress(Unavailable):
        guard.renew()
    scheduler.start()
    log.info("steward_ready")
    signal.sigwait(END_SIGNALS)
    scheduler.stop()
    webhooks.threads.stop()
    leases.give_up()
    scheduler.join(STOP_TIMEOUT_SECONDS)
    guard.release()


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


@dataclass(frozen=True, slots=True)
class Stores:
    jobs: JobStore
    survey: JobSurvey
    lists: JobLists
    bucket: Bucket
    webhooks: WebhookErasure
    clock: StoreClock


def build_duties(
    settings: StewardSettings,
    stores: Stores,
    guard: StackGuard,
    metrics: StewardMetrics,
    leases: DutyLeases,
    runs: DutyRuns,
) -> Sequence[Duty]:
    """Return the table of periodic duties; those that list the bucket wait until it is known to be of this stack."""
    inputs = InputMover(stores.bucket, settings.input_ttl_seconds, run_for_each)
    reconciler = build_reconciler(settings, stores, metrics, inputs, runs)
    recovery = build_recovery(settings, stores, metrics, inputs, leases)
    retention = build_retention(settings, stores, metrics)
    purges = PurgeCompletion(stores.jobs, stores.bucket, metrics, now=stores.clock.now)
    erasures = build_erasure(stores, metrics, leases)
    deadlines = DeadlineExpiry(stores.jobs, stores.bucket, metrics, inputs)
    often = settings.requeue_interval_seconds
    return (
        Duty("renew_stack", RENEWAL_INTERVAL_SECONDS, guard.renew, has_lease=False),
        Duty("record_runs", RECORD_INTERVAL_SECONDS, runs.record, has_lease=False),
        Duty("requeue_stalled", often, reconciler.requeue_stalled, reconciler.find_stalled),
        Duty("fail_exhausted", often, reconciler.fail_exhausted, reconciler.find_exhausted),
        Duty("requeue_delayed", often, reconciler.requeue_delayed, stores.survey.find_delayed),
        Duty("expire_overdue", often, deadlines.expire_overdue, stores.survey.find_overdue),
        Duty("republish_orphaned", often, reconciler.republish_orphaned, reconciler.find_orphaned),
        Duty(RECOVERY, settings.recovery_interval_seconds, guard.require(recovery.recover_jobs)),
        Duty("delete_expired", settings.retention_interval_seconds, guard.require(retention.delete_expired)),
        Duty("delete_hidden", HIDDEN_INTERVAL_SECONDS, guard.require(retention.delete_hidden)),
        Duty(
            "complete_purges",
            settings.purge_interval_seconds,
            purges.complete_purges,
            guard.require(purges.find_purges),
        ),
        Duty(
            ERASURE,
            settings.purge_interval_seconds,
            erasures.continue_erasures,
            guard.require(erasures.find_erasures),
        ),
    )


def build_reconciler(
    settings: StewardSettings, stores: Stores, metrics: StewardMetrics, inputs: InputMover, runs: DutyRuns
) -> Reconciler:
    return Reconciler(
        stores.jobs,
        stores.survey,
        stores.bucket,
        JobQueue(connect(settings)),
        OrphanDetector(settings.orphaned_after_seconds),
        metrics,
        inputs,
        StoredResults(stores.bucket),
        OutageGrace(settings.lease_seconds, lambda: max(runs.read().values(), default=None)),
    )


def build_recovery(
    settings: StewardSettings, stores: Stores, metrics: StewardMetrics, inputs: InputMover, leases: DutyLeases
) -> InboxRecovery:
    return InboxRecovery(
        stores.jobs,
        stores.survey,
        stores.bucket,
        metrics,
        inputs,
        stores.clock,
        settings.inbox_grace_seconds,
        partial(leases.check, RECOVERY),
    )


def build_retention(settings: StewardSettings, stores: Stores, metrics: StewardMetrics) -> Retention:
    return Retention(
        stores.survey,
        stores.bucket,
        metrics,
        stores.clock,
        settings.result_ttl_seconds,
        settings.input_ttl_seconds,
        settings.upload_ttl_seconds,
        settings.recut_ttl_seconds,
    )


def build_erasure(stores: Stores, metrics: StewardMetrics, leases: DutyLeases) -> DataErasure:
    return DataErasure(
        stores.jobs,
        stores.lists,
        stores.bucket,
        Erasures(stores.bucket),
        stores.webhooks,
        metrics,
        stores.clock,
        partial(leases.check, ERASURE),
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
