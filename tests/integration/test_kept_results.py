"""A store that does not answer: finished work is kept until it is stored, and computed once."""

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from deploy.local.processes import Process
from deploy.local.servers import ObjectPorts, ObjectServer, ValkeyServer, free_ports
from shared.broker.envelope import encode_message
from shared.errors import StorageUnavailable, StoreUnavailable
from shared.jobs.completion import read_result
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest, JobState
from shared.jobs.store import JobStore, open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.keys import inbox_key
from tests.conftest import Storage
from tests.support.environment import copy_environment, get_fields
from tests.support.jobs import FakeSegmenter, ImmediateScheduler, build_request, store_input
from tests.support.polling import wait_until
from tests.support.storage_proxy import Exchange, open_storage_proxy
from tests.support.worker import InProcessWorker, WorkingStores, build_worker
from worker.batching.scheduler import Ticket
from worker.segmenter import ModelImage

BUCKET = "kept-results"
START_SECONDS = 60.0
# Longer than a worker waits for a store, with all that it repeats.
FROZEN_SECONDS = 4.0
JOBS = 40


class CountingScheduler(ImmediateScheduler):
    """Counts the images that the model gets."""

    def __init__(self) -> None:
        super().__init__(FakeSegmenter())
        self.images = 0

    def submit(self, image: ModelImage, **kwargs: Any) -> Ticket:
        self.images += 1
        return super().submit(image, **kwargs)


class FailingBucket(Bucket):
    """Does not answer the next `failures` calls that store an object, or one whose key ends with `name`.

    is_lost: it has stored what it does not answer.
    """

    def __init__(self, bucket: Bucket, *, failures: int, name: str = "", is_lost: bool = False) -> None:
        super().__init__(bucket._store, bucket._slow)
        self.failures = failures
        self.name = name
        self.is_lost = is_lost

    def put(self, key: str, content: bytes, **kwargs: Any) -> str:
        return str(self._answer(key, lambda: super(FailingBucket, self).put(key, content, **kwargs)))

    def put_first(self, key: str, content: bytes, **kwargs: Any) -> bool:
        return bool(self._answer(key, lambda: super(FailingBucket, self).put_first(key, content, **kwargs)))

    def _answer(self, key: str, store: Callable[[], object]) -> object:
        if not self.failures or not key.endswith(self.name):
            return store()
        self.failures -= 1
        if self.is_lost:
            store()
        raise StorageUnavailable("no answer")


@pytest.fixture
def config(clean_redis: str, storage_env: Mapping[str, str]) -> Settings:
    return Settings(redis_url=clean_redis, **get_fields(storage_env))


@pytest.fixture
def worker(config: Settings) -> Iterator[InProcessWorker]:
    worker = replace(build_worker(config), keep_seconds=30.0, batches=CountingScheduler())
    worker.leases.start()
    yield worker
    worker.leases.stop()


def submit(worker: InProcessWorker, **changes: object) -> JobRequest:
    request = build_request(**changes)
    store_input(worker.bucket, request)
    worker.jobs.create(request)
    return request


def assert_computed_once(worker: InProcessWorker, request: JobRequest) -> None:
    job = worker.jobs.get(request.id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
    assert isinstance(worker.batches, CountingScheduler)
    assert worker.batches.images == 1


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize("name", ["masks.zip", "result.json"])
def test_what_the_bucket_did_not_answer_is_stored_again(worker: InProcessWorker, name: str, is_lost: bool) -> None:
    request = submit(worker)
    stores = WorkingStores()

    bucket = FailingBucket(worker.bucket, failures=2, name=name, is_lost=is_lost)
    replace(worker, bucket=bucket, stores=stores).run(request.id)

    assert bucket.failures == 0
    assert_computed_once(worker, request)
    assert stores.is_reported


def test_a_result_whose_put_was_not_answered_is_read_back(
    worker: InProcessWorker, config: Settings, storage: Storage
) -> None:
    request = submit(worker)
    lost = []

    def lose_one_answer(exchange: Exchange) -> None:
        if exchange.status == 200 and "if-none-match" in exchange.headers and not lost:
            lost.append(exchange.path)
            exchange.refuse(500, "InternalError")

    with open_storage_proxy(storage, lose_one_answer) as url:
        bucket = open_bucket(config.model_copy(update={"storage_endpoint": url}))
        replace(worker, bucket=bucket).run(request.id)

    assert lost
    assert_computed_once(worker, request)


def test_a_refused_put_without_a_result_is_repeated(worker: InProcessWorker) -> None:
    # S3 refuses a put because of another one at the same time, and that one may fail.
    class RefusingBucket(FailingBucket):
        def put_first(self, key: str, content: bytes, **kwargs: Any) -> bool:
            if not self.failures:
                return super().put_first(key, content, **kwargs)
            self.failures -= 1
            return False

        def put(self, key: str, content: bytes, **kwargs: Any) -> str:
            return worker.bucket.put(key, content, **kwargs)

    request = submit(worker)

    replace(worker, bucket=RefusingBucket(worker.bucket, failures=2)).run(request.id)

    assert_computed_once(worker, request)


def test_a_failure_is_kept_too(worker: InProcessWorker) -> None:
    request = submit(worker)
    worker.bucket.put(inbox_key(request.id), b"no image", content_type="image/png")

    replace(worker, bucket=FailingBucket(worker.bucket, failures=2)).run(request.id)

    job = worker.jobs.get(request.id)
    assert (job.state, job.attempt) == (JobState.FAILED, 1)


class ForgetfulStore(JobStore):
    """Does not answer the next `failures` calls that end a job."""

    failures = 0

    def finish(self, *args: Any, **kwargs: Any) -> bool:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("no answer")
        return super().finish(*args, **kwargs)


@pytest.fixture
def forgetful(config: Settings) -> ForgetfulStore:
    return ForgetfulStore(connect(config), lease_seconds=10, max_attempts=3)


def test_an_end_that_redis_did_not_take_is_recorded_later(worker: InProcessWorker, forgetful: ForgetfulStore) -> None:
    request = submit(worker)
    forgetful.failures = 2

    replace(worker, jobs=forgetful).run(request.id)

    assert_computed_once(worker, request)


def test_a_job_whose_end_is_stored_is_never_given_back(worker: InProcessWorker, forgetful: ForgetfulStore) -> None:
    request = submit(worker)
    forgetful.failures = 1000

    with capture_logs() as logs:
        replace(worker, jobs=forgetful, keep_seconds=0.1).run(request.id)

    # The steward finds its result once the lease has expired.
    assert worker.jobs.get(request.id).state is JobState.RUNNING
    result = read_result(request.id, bucket=worker.bucket)
    assert result is not None
    assert result.state is JobState.SUCCEEDED
    events = {entry["event"] for entry in logs}
    assert "job_stored_not_recorded" in events
    assert "job_released" not in events


def test_a_drain_gives_back_no_job_whose_end_is_stored(worker: InProcessWorker, config: Settings) -> None:
    states = []

    class DrainingStore(JobStore):
        def finish(self, request: JobRequest, *args: Any, **kwargs: Any) -> bool:
            worker.leases.give_back()
            states.append(self.get(request.id).state)
            return super().finish(request, *args, **kwargs)

    request = submit(worker)

    replace(worker, jobs=DrainingStore(connect(config), lease_seconds=10, max_attempts=3)).run(request.id)

    assert states == [JobState.RUNNING]
    assert_computed_once(worker, request)


def test_a_result_is_kept_for_a_bounded_time(worker: InProcessWorker) -> None:
    request = submit(worker)

    replace(worker, bucket=FailingBucket(worker.bucket, failures=1000), keep_seconds=0.1).run(request.id)

    job = worker.jobs.get(request.id)
    assert (job.state, job.stalls) == (JobState.QUEUED, 0)


def test_a_lost_lease_ends_the_wait_for_the_bucket(worker: InProcessWorker) -> None:
    request = submit(worker)
    bucket = FailingBucket(worker.bucket, failures=10**6)
    running = threading.Thread(target=replace(worker, bucket=bucket, keep_seconds=600.0).run, args=[request.id])
    running.start()
    wait_until(lambda: bucket.failures < 10**6)

    for lease in list(worker.leases._leases):
        lease.lose()

    running.join(5)
    assert not running.is_alive()
    assert read_result(request.id, bucket=worker.bucket) is None


@dataclass(frozen=True)
class Service:
    """A real worker of one host, whose segmenter is a fake, and stores of its own."""

    valkey: ValkeyServer
    storage: ObjectServer
    worker: Process
    jobs: JobStore
    bucket: Bucket

    def submit(self) -> JobRequest:
        request = build_request(formats=("labels",))
        store_input(self.bucket, request)
        self.jobs.create(request, message=encode_message(job_queue(request)))
        return request

    def count(self, state: JobState, requests: list[JobRequest]) -> int:
        return sum(self.jobs.get(request.id).state is state for request in requests)

    def list_events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.worker.log.read_text().splitlines() if line.startswith("{")]

    def count_starts(self) -> Counter[str]:
        """Return how often the model got the image of each job."""
        return Counter(entry["job_id"] for entry in self.list_events() if entry["event"] == "job_started")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("frozen")
    with (
        ValkeyServer(folder / "valkey", *free_ports(1)) as valkey,
        ObjectServer(folder / "objects", ObjectPorts.allocate(), "test-access", "test-secret") as objects,
    ):
        valkey.wait_ready()
        objects.wait_ready()
        objects.create_bucket(BUCKET)
        objects.wait_writable(BUCKET)
        settings = Settings(
            redis_url=valkey.url,
            storage_endpoint=objects.url,
            storage_bucket=BUCKET,
            storage_access_key=objects.access_key,
            storage_secret_key=objects.secret_key,
        )
        env = {
            **copy_environment(),
            "MASKMILL_REDIS_URL": valkey.url,
            "MASKMILL_REDIS_TIMEOUT_SECONDS": "0.5",
            "MASKMILL_STORAGE_ENDPOINT": objects.url,
            "MASKMILL_STORAGE_BUCKET": BUCKET,
            "MASKMILL_STORAGE_ACCESS_KEY": objects.access_key,
            "MASKMILL_STORAGE_SECRET_KEY": objects.secret_key,
            "MASKMILL_STORAGE_TIMEOUT_SECONDS": "0.5",
            "MASKMILL_STORAGE_RETRIES": "1",
            "MASKMILL_LOG_FORMAT": "json",
        }
        command = [sys.executable, "-m", "tests.bench.instant_worker", "0.2"]
        with Process("The worker", command, log=folder / "worker.log", env=env) as process:
            service = Service(
                valkey, objects, process, open_job_store(connect(settings), settings), open_bucket(settings)
            )
            wait_until(lambda: has_event(service, "host_ready"), seconds=START_SECONDS)
            yield service
            process.kill()
        objects.kill()


def has_event(service: Service, event: str) -> bool:
    service.worker.check_alive()
    return any(entry["event"] == event for entry in service.list_events())


@contextmanager
def freeze(process: Process) -> Iterator[None]:
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


@pytest.mark.parametrize("store", ["valkey", "storage"])
def test_no_finished_job_is_computed_twice_while_a_store_is_frozen(service: Service, store: str) -> None:
    requests = [service.submit() for _ in range(JOBS)]
    wait_until(lambda: service.count(JobState.SUCCEEDED, requests), seconds=20)
    assert service.count(JobState.SUCCEEDED, requests) < JOBS

    with freeze(getattr(service, store)):
        time.sleep(FROZEN_SECONDS)

    wait_until(lambda: service.count(JobState.SUCCEEDED, requests) == JOBS, seconds=30)
    starts = service.count_starts()
    assert {starts[request.id] for request in requests} == {1}
    assert has_event(service, "claims_paused")
