"""A worker inside the test's process: the pipeline over real stores, with a fake segmenter and without Celery."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from shared import redis_keys
from shared.broker.envelope import encode_message
from shared.broker.queues import JobQueue
from shared.jobs.inputs import InputMover
from shared.jobs.messages import job_queue
from shared.jobs.model import JobState, Priority
from shared.jobs.payloads import PayloadStore
from shared.jobs.store import Claim, JobStore, TakenMessage, open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from tests.support.jobs import FakeSegmenter, ImmediateScheduler
from worker.batching.local import Batches
from worker.decoding.decoders import DecodeLimits, Decoders
from worker.pipeline.attempt import AttemptRunner, ModelInput
from worker.pipeline.completer import Completer
from worker.pipeline.held_fetches import HeldFetches
from worker.pipeline.inputs import InputReader, UrlReader
from worker.pipeline.isolation import Isolation
from worker.pipeline.job import JobRunner
from worker.pipeline.leases import LeaseKeeper
from worker.pipeline.publication import Publication
from worker.pipeline.recut import RecutKeeper
from worker.pipeline.rendering import load_renderers
from worker.pipeline.slots import Slots
from worker.pipeline.store_watch import StoreWatch
from worker.runtime.metrics import WorkerMetrics
from worker.slabs import SlabAllocator, SlabPool


class ImmediateFollowUp:
    """Runs each function on the calling thread, before submit() returns."""

    def submit(self, function: Callable[..., object], *args: Any) -> None:
        function(*args)


@functools.cache
def start_shared_decoders() -> Decoders:
    """Return the decoders that tests share, because their processes take a moment to start; they end with pytest."""
    decoders = Decoders(SlabAllocator(SlabPool.create(2**26)), DecodeLimits())
    decoders.start()
    return decoders


@dataclass(frozen=True)
class OnePriority:
    """A slot for the jobs of one priority."""

    priority: Priority

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return (self.priority,)

    def lend(self) -> bool:
        return False


def move_to_front(jobs: JobStore, job_id: str) -> bool:
    """Move a queued job to the front of its queue; False if it is not queued."""
    if not jobs.is_known(job_id) or jobs.get(job_id).state is not JobState.QUEUED:
        return False
    job = jobs.get(job_id)
    queue = job_queue(job.request)
    with jobs._redis.pipeline() as batch:
        batch.zrem(redis_keys.delayed_jobs(queue), job_id)
        batch.zadd((redis_keys.suspected_jobs if job.stalls else redis_keys.queued_jobs)(queue), {job_id: 0})
        batch.execute()
    return True


def claim_job(jobs: JobStore, job_id: str, *, worker: str = "w") -> Claim | None:
    """Claim a job before all others, or return None if it is not queued."""
    if not move_to_front(jobs, job_id):
        return None
    request = jobs.get(job_id).request
    claim = jobs.attempts.claim(request.model, worker=worker, priorities=[request.priority], may_isolate=True)
    assert isinstance(claim, Claim)
    assert claim.request.id == job_id
    return claim


class WorkingStores:
    """Stores that take the ends of jobs whenever they are checked; remembers whether an error was reported."""

    is_reported = False

    def report_error(self) -> None:
        self.is_reported = True

    def can_end_jobs(self) -> bool:
        return True


class NoUrls:
    """Fetches nothing."""

    def fetch(self, url: str) -> bytes:
        raise AssertionError("a URL was fetched")


@dataclass(frozen=True)
class InProcessWorker:
    """Runs jobs on the calling thread; dataclasses.replace() exchanges a collaborator."""

    jobs: JobStore
    bucket: Bucket
    payloads: PayloadStore
    leases: LeaseKeeper
    input_ttl_seconds: int
    slots: Slots = field(default_factory=lambda: Slots(1, 0))
    batches: Batches = field(default_factory=lambda: ImmediateScheduler(FakeSegmenter()))
    stores: WorkingStores | StoreWatch = field(default_factory=WorkingStores)
    keep_seconds: float = 0.0
    worker_id: str = "test-worker"
    urls: UrlReader = field(default_factory=NoUrls)
    held_fetches: HeldFetches = field(default_factory=lambda: HeldFetches(1))
    recuts: RecutKeeper = field(default_factory=RecutKeeper)

    def claim(self, job_id: str) -> Claim | None:
        """Claim a job before all others, or return None if it is not queued."""
        return claim_job(self.jobs, job_id, worker="lost")

    def run(self, job_id: str) -> None:
        """Run a job before all others, if it is queued, as with a message of its queue."""
        if move_to_front(self.jobs, job_id):
            request = self.jobs.get(job_id).request
            message = TakenMessage(job_queue(request), encode_message(job_queue(request)))
            self._build_runner(request.model).run_next(OnePriority(request.priority), message)

    def run_jobs(self, queue: str) -> None:
        """Run jobs as with a message of a queue."""
        self._build_runner(FakeSegmenter.model).run_jobs(queue)

    def _build_runner(self, model: str) -> JobRunner:
        inputs = InputMover(self.bucket, self.input_ttl_seconds)
        publication = Publication(self.jobs, self.bucket, inputs, self.stores, self.keep_seconds)
        attempts = AttemptRunner(
            inputs=InputReader(
                self.bucket,
                self.payloads,
                self.urls,
                self.held_fetches,
                self.jobs.attempts.record_image,
                max_pixels=10**7,
                max_side=65_500,
            ),
            decoders=start_shared_decoders(),
            model=ModelInput(FakeSegmenter.revision, FakeSegmenter.resize),
            batches=self.batches,
            renderers=load_renderers(),
            payloads=self.payloads,
            clock=self.jobs.clock,
            publication=publication,
            max_pixels=10**7,
            max_side=65_500,
            recuts=self.recuts,
        )
        return JobRunner(
            model,
            self.jobs,
            JobQueue(self.jobs._redis),
            self.slots,
            self.leases,
            Isolation(self.jobs, self.slots, self.leases),
            attempts,
            Completer(self.jobs, publication, self.stores, WorkerMetrics(CollectorRegistry())),
            self.stores,
            ImmediateFollowUp(),
            self.worker_id,
            self.keep_seconds,
        )


def build_worker(settings: Settings, *, jobs: JobStore | None = None) -> InProcessWorker:
    jobs = jobs or open_job_store(connect(settings), settings)
    return InProcessWorker(
        jobs=jobs,
        bucket=open_bucket(settings),
        input_ttl_seconds=settings.input_ttl_seconds,
        payloads=PayloadStore(connect(settings, decode=False)),
        leases=LeaseKeeper(jobs, lease_seconds=settings.lease_seconds),
    )
