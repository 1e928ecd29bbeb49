"""Recovery of the jobs that Redis has lost, from their inputs, while stalled jobs are requeued.

Inputs are stored as a gateway stores them, with an empty Redis.  Then the duties of a steward run, as in its process.
A job whose worker was lost is requeued meanwhile.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from deploy.local.servers import ObjectPorts, ObjectServer, ValkeyServer, free_ports
from shared.jobs.store import JobStore, open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from tests.bench.measurement import Measurement, Workload, print_progress
from tests.support.jobs import build_request, store_input
from tests.support.polling import wait_until
from tests.support.steward import build_steward
from tests.support.worker import claim_job
from worker.steward.duties import Duty, DutyScheduler
from worker.steward.duty_runs import DutyRuns
from worker.steward.leases import DutyLeases

INPUTS_PER_BURST_JOB = 25
BUCKET = "recovery"
LEASE_SECONDS = 1.0
TIMEOUT_SECONDS = 600.0


class CountingBucket(Bucket):
    """Counts the reads of objects; listings are not among them."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket._store, bucket._slow)
        self._numbers = count()

    @property
    def read_count(self) -> int:
        """The number of reads; counted once, at the end."""
        return next(self._numbers)

    def get(self, key: str, etag: str | None = None) -> bytes:
        next(self._numbers)
        return super().get(key, etag)

    def get_metadata(self, key: str) -> Mapping[str, str]:
        next(self._numbers)
        return super().get_metadata(key)


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure one recovery of all inputs."""
    inputs = INPUTS_PER_BURST_JOB * workload.burst_jobs
    with start_stores() as settings:
        jobs, bucket = open_job_store(connect(settings), settings), open_bucket(settings)
        print_progress(f"recovery: storing {inputs} inputs")
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: put_input(bucket), range(inputs)))
        stalled = put_input(bucket)
        print_progress("recovery: recovering")
        yield measure(settings, jobs, CountingBucket(bucket), inputs, stalled)


@contextmanager
def start_stores() -> Iterator[Settings]:
    """Yield the settings of an empty Valkey and an empty bucket."""
    with (
        tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder,
        ValkeyServer(Path(folder) / "valkey", *free_ports(1)) as valkey,
        ObjectServer(Path(folder) / "objects", ObjectPorts.allocate(), "bench-access", "bench-secret") as objects,
    ):
        valkey.wait_ready()
        objects.wait_ready()
        objects.create_bucket(BUCKET)
        yield Settings(
            redis_url=valkey.url,
            storage_endpoint=objects.url,
            storage_bucket=BUCKET,
            storage_access_key=objects.access_key,
            storage_secret_key=objects.secret_key,
            lease_seconds=LEASE_SECONDS,
        )


def put_input(bucket: Bucket) -> str:
    """Store an input; return the id of its job."""
    request = build_request()
    store_input(bucket, request)
    return request.id


def measure(settings: Settings, jobs: JobStore, bucket: CountingBucket, inputs: int, stalled: str) -> Measurement:
    steward = build_steward(settings, jobs, bucket)
    reconciler, done = steward.reconciler, DutyRuns(connect(settings), observe=lambda _duty, _seconds: None)
    scheduler = DutyScheduler(
        [
            Duty("recover_jobs", settings.lease_seconds, steward.recovery.recover_jobs),
            Duty("requeue_stalled", 0.1, reconciler.requeue_stalled, reconciler.find_stalled),
        ],
        DutyLeases(connect(settings)),
        done,
    )
    jobs.create(build_request(id=stalled))
    assert claim_job(jobs, stalled)
    time.sleep(settings.lease_seconds)
    start = time.monotonic()
    scheduler.start()
    wait_until(lambda: jobs.get(stalled).stalls == 1, seconds=TIMEOUT_SECONDS)
    requeued = time.monotonic() - start
    wait_until(lambda: count_jobs(jobs) == inputs + 1, seconds=TIMEOUT_SECONDS, poll_interval_seconds=0.1)
    seconds = time.monotonic() - start
    scheduler.stop()
    scheduler.join(TIMEOUT_SECONDS)
    figures = {
        "seconds": round(seconds, 1),
        "inputs_per_second": round(inputs / seconds),
        # One more is the result that the stalled job might have had.
        "reads_per_input": round((bucket.read_count - 1) / inputs, 3),
        "stalled_job_requeued_after_seconds": round(requeued, 2),
    }
    return Measurement("recovery", {"inputs": inputs}, figures)


def count_jobs(jobs: JobStore) -> int:
    return sum(map(jobs.queues.backlog, jobs.queues.list_names()))
