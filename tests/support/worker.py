"""A worker inside the test's process: the pipeline over real stores, with a fake segmenter and without Celery."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from shared.jobs.payloads import PayloadStore
from shared.jobs.store import JobStore, open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from tests.support.jobs import FakeSegmenter, ImmediateScheduler
from worker.batching.local import Batches
from worker.pipeline.attempt import AttemptRunner
from worker.pipeline.completer import Completer
from worker.pipeline.inputs import InputReader
from worker.pipeline.job import JobRunner
from worker.pipeline.leases import LeaseKeeper
from worker.pipeline.rendering import load_renderers
from worker.runtime.metrics import WorkerMetrics


class ImmediateFollowUp:
    """Runs each function on the calling thread, before submit() returns."""

    def submit(self, function: Callable[..., object], *args: Any) -> None:
        function(*args)


@dataclass(frozen=True)
class InProcessWorker:
    """Runs jobs on the calling thread; dataclasses.replace() exchanges a collaborator."""

    jobs: JobStore
    bucket: Bucket
    payloads: PayloadStore
    leases: LeaseKeeper
    batches: Batches = field(default_factory=lambda: ImmediateScheduler(FakeSegmenter()))

    def run(self, job_id: str) -> None:
        attempts = AttemptRunner(
            inputs=InputReader(self.bucket, self.payloads),
            model_revision=FakeSegmenter.revision,
            resize=FakeSegmenter.resize,
            batches=self.batches,
            renderers=load_renderers(),
            payloads=self.payloads,
            bucket=self.bucket,
            max_pixels=10**7,
        )
        completer = Completer(self.jobs, self.bucket, self.payloads, WorkerMetrics(CollectorRegistry()))
        JobRunner(self.jobs, self.leases, attempts, completer, ImmediateFollowUp(), "test-worker").run(job_id)


def build_worker(settings: Settings, *, jobs: JobStore | None = None) -> InProcessWorker:
    jobs = jobs or open_job_store(connect(settings), settings)
    return InProcessWorker(
        jobs=jobs,
        bucket=open_bucket(settings),
        payloads=PayloadStore(connect(settings, decode=False)),
        leases=LeaseKeeper(jobs, lease_seconds=settings.lease_seconds),
    )
