"""The duties of a steward inside the test's process, over real stores and run on demand."""

import time
from dataclasses import dataclass
from uuid import uuid4

from prometheus_client import CollectorRegistry

from shared.broker.queues import JobQueue
from shared.jobs.inputs import InputMover
from shared.jobs.store import JobStore
from shared.jobs.survey import JobSurvey
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket
from shared.storage.clock import StoreClock
from worker.steward.deadlines import DeadlineExpiry
from worker.steward.metrics import StewardMetrics
from worker.steward.orphans import OrphanDetector
from worker.steward.outages import OutageGrace
from worker.steward.parallel import run_for_each
from worker.steward.purges import PurgeCompletion
from worker.steward.reconciler import Reconciler
from worker.steward.recovery import InboxRecovery
from worker.steward.retention import Retention
from worker.steward.stored_results import StoredResults

# The store's clock may be slow by a second, and an object may be one of a second later.
NO_GRACE_SECONDS = -3.0


def follow_store(bucket: Bucket) -> StoreClock:
    """Return the clock of an object store, as a steward knows it that has renewed its mark."""
    clock, key = StoreClock(), f"store-check/{uuid4().hex}"
    bucket.put(key, b"", content_type="text/plain")
    stored_at = time.monotonic()
    clock.observe(bucket.get_dated(key)[1], at=stored_at)
    bucket.delete([key])
    return clock


@dataclass(frozen=True)
class Steward:
    queue: JobQueue
    survey: JobSurvey
    reconciler: Reconciler
    recovery: InboxRecovery
    retention: Retention
    purges: PurgeCompletion
    deadlines: DeadlineExpiry

    def reconcile(self) -> None:
        """Run each duty of the reconciler once."""
        reconciler = self.reconciler
        reconciler.requeue_stalled(reconciler.find_stalled())
        reconciler.fail_exhausted(reconciler.find_exhausted())
        reconciler.requeue_delayed(self.survey.find_delayed())
        reconciler.republish_orphaned(reconciler.find_orphaned())

    def expire_overdue(self) -> None:
        self.deadlines.expire_overdue(self.survey.find_overdue())

    def complete_purges(self) -> None:
        self.purges.complete_purges(self.purges.find_purges())


def build_steward(
    settings: Settings,
    jobs: JobStore,
    bucket: Bucket,
    *,
    orphaned_after_seconds: float = 0.05,
    inbox_grace_seconds: float = NO_GRACE_SECONDS,
    result_ttl_seconds: int = 2,
) -> Steward:
    """Return a steward that has seen Redis answer, and trusts expired leases."""
    queue, metrics, clock = JobQueue(connect(settings)), StewardMetrics(CollectorRegistry()), follow_store(bucket)
    survey = JobSurvey(connect(settings))
    inputs = InputMover(bucket, settings.input_ttl_seconds, run_for_each)
    return Steward(
        queue,
        survey,
        Reconciler(
            jobs,
            survey,
            bucket,
            queue,
            OrphanDetector(orphaned_after_seconds),
            metrics,
            inputs,
            StoredResults(bucket),
            OutageGrace(settings.lease_seconds, lambda: survey.find_stalled().now),
        ),
        InboxRecovery(jobs, survey, bucket, metrics, inputs, clock, inbox_grace_seconds, check=lambda: None),
        Retention(
            survey,
            bucket,
            metrics,
            clock,
            result_ttl_seconds,
            settings.input_ttl_seconds,
            settings.upload_ttl_seconds,
            settings.recut_ttl_seconds,
        ),
        PurgeCompletion(jobs, bucket, metrics, now=clock.now),
        DeadlineExpiry(jobs, bucket, metrics, inputs),
    )
