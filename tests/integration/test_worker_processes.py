"""A real worker of an engine process and two hosts: what a killed, hung or ended process costs.

The segmenter is a fake whose batches take a fixed time; everything else is real.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from deploy.local.processes import Process
from shared.broker.envelope import encode_message
from shared.jobs.messages import job_queue
from shared.jobs.model import Job, JobRequest, JobState
from shared.jobs.payloads import PayloadStore
from shared.jobs.store import Claim, InputPayload, JobStore, open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from shared.worker_registry import WorkerRegistry, WorkerState
from tests.bench.cpu_time import read_cpu_seconds
from tests.support.environment import copy_environment, get_fields
from tests.support.jobs import build_request, build_sync_request, png, store_input
from tests.support.polling import wait_until
from tests.support.steward import Steward, build_steward
from tests.support.survey import find_stalled

START_SECONDS = 60.0
LEASE_SECONDS = 1.5
HOSTS = 2
# Engine and hosts together, without the collections that a worker with torch's modules need not make: they take 0.9 s.
MAX_END_CPU_SECONDS = 0.5
# Of half a second; a worker that is ready still starts processes that decode.
MAX_IDLE_CPU_SECONDS = 0.02


@dataclass(frozen=True)
class WorkerUnderTest:
    """A worker, and the stores that it shares with this process."""

    process: Process
    jobs: JobStore
    bucket: Bucket
    registry: WorkerRegistry

    def submit(self) -> JobRequest:
        request = build_request(formats=("labels",))
        store_input(self.bucket, request)
        self.jobs.create(request, message=encode_message(job_queue(request)))
        return request

    def get(self, request: JobRequest) -> Job:
        return self.jobs.get(request.id)

    def wait_for(self, state: JobState, *requests: JobRequest, seconds: float = 20.0) -> None:
        wait_until(lambda: all(self.get(request).state is state for request in requests), seconds=seconds)

    def wait_started(self, *requests: JobRequest) -> None:
        """Wait until images are queued for the device."""
        wait_until(lambda: {request.id for request in requests} <= self.list_started(), seconds=20)

    def list_started(self) -> set[str]:
        entries = [json.loads(line) for line in self.process.log.read_text().splitlines() if line.startswith("{")]
        return {entry["job_id"] for entry in entries if entry["event"] == "job_started"}

    def wait_ready(self) -> None:
        wait_until(self.is_ready, seconds=START_SECONDS)

    def is_ready(self) -> bool:
        self.process.check_alive()
        return any(worker.state is WorkerState.READY for worker in self.registry.snapshot().workers)

    def list_hosts(self) -> list[int]:
        """Return the process ids of the engine's children."""
        # A child is listed by the thread that started it.
        by_thread = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for children in by_thread for pid in children.read_text().split()]

    def build_steward(self, settings: Settings) -> Steward:
        return build_steward(settings, self.jobs, self.bucket, orphaned_after_seconds=0.2)


class StartWorker(Protocol):
    """Runs a worker whose batches take a number of seconds."""

    def __call__(
        self, batch_seconds: float, *, drain_seconds: float = 10.0
    ) -> AbstractContextManager[WorkerUnderTest]: ...


@pytest.fixture
def settings(clean_redis: str, storage_env: Mapping[str, str]) -> Settings:
    return Settings(redis_url=clean_redis, lease_seconds=LEASE_SECONDS, **get_fields(storage_env))


@pytest.fixture
def start_worker(settings: Settings, storage_env: Mapping[str, str], tmp_path: Path) -> StartWorker:
    """Return a context manager that runs a worker whose batches take a number of seconds."""

    @contextmanager
    def start(batch_seconds: float, *, drain_seconds: float = 10.0) -> Iterator[WorkerUnderTest]:
        environment = copy_environment()
        env = {
            **environment,
            **storage_env,
            "MASKMILL_REDIS_URL": settings.redis_url,
            "MASKMILL_LEASE_SECONDS": str(LEASE_SECONDS),
            "MASKMILL_HOST_PROCESSES": str(HOSTS),
            "MASKMILL_DRAIN_SECONDS": str(drain_seconds),
            "MASKMILL_LOG_FORMAT": "json",
        }
        command = [sys.executable, "-m", "tests.bench.instant_worker", str(batch_seconds)]
        jobs = open_job_store(connect(settings), settings)
        with Process("The worker", command, log=tmp_path / "worker.log", env=env) as process:
            worker = WorkerUnderTest(process, jobs, open_bucket(settings), WorkerRegistry(connect(settings)))
            worker.wait_ready()
            yield worker
            process.kill()

    return start


def test_a_killed_host_costs_its_jobs_one_attempt_and_is_replaced(
    start_worker: StartWorker, settings: Settings
) -> None:
    with start_worker(0.5) as worker:
        steward = worker.build_steward(settings)
        hosts = worker.list_hosts()
        requests = [worker.submit() for _ in range(8)]
        worker.wait_for(JobState.RUNNING, *requests[:2])

        os.kill(hosts[0], signal.SIGKILL)

        def is_finished() -> bool:
            steward.reconcile()
            return all(worker.get(request).state is JobState.SUCCEEDED for request in requests)

        wait_until(is_finished, seconds=30)
        assert max(worker.get(request).attempt for request in requests) <= 2
        wait_until(lambda: len(worker.list_hosts()) == HOSTS)
        assert worker.is_ready()


def test_of_a_killed_engine_what_was_on_the_device_stalls_and_the_rest_is_given_back(start_worker: StartWorker) -> None:
    with start_worker(5.0) as worker:
        hosts = worker.list_hosts()
        on_device = worker.submit()
        worker.wait_started(on_device)
        waiting = [worker.submit() for _ in range(4)]
        worker.wait_started(*waiting)

        os.kill(worker.process.pid, signal.SIGKILL)

        # At once: before the leases expire.
        wait_until(lambda: find_stalled(worker.jobs) == [on_device.id], seconds=LEASE_SECONDS / 2)
        worker.wait_for(JobState.QUEUED, *waiting, seconds=LEASE_SECONDS / 2)
        assert {worker.get(request).stalls for request in waiting} == {0}
        assert {worker.get(request).attempt for request in waiting} == {1}
        # And no process is left.
        wait_until(lambda: not any(is_running(pid) for pid in hosts), seconds=10)


def test_a_worker_finishes_its_jobs_on_sigterm(start_worker: StartWorker) -> None:
    with start_worker(1.0) as worker:
        requests = [worker.submit() for _ in range(4)]
        worker.wait_for(JobState.RUNNING, *requests)

        os.kill(worker.process.pid, signal.SIGTERM)

        wait_until(lambda: not worker.process.is_alive, seconds=15)
        assert worker.process.exit_code == 0
        assert {worker.get(request).state for request in requests} == {JobState.SUCCEEDED}
        assert not worker.registry.snapshot().workers


def test_an_idle_worker_ends_with_little_work(start_worker: StartWorker) -> None:
    """Its niceness is high, so on a busy machine each second of CPU time is several."""
    ended_before = count_ended_seconds()
    with start_worker(0.0) as worker:
        running = wait_until_idle(worker.process.pid)

        os.kill(worker.process.pid, signal.SIGTERM)

        wait_until(lambda: worker.process.exit_code == 0, seconds=15)
    assert count_ended_seconds() - ended_before - running < MAX_END_CPU_SECONDS


def wait_until_idle(pid: int) -> float:
    """Return the CPU time of a process and its descendants, once they use hardly any."""
    readings = [read_cpu_seconds([pid])]

    def is_idle() -> bool:
        readings.append(read_cpu_seconds([pid]))
        return readings[-1] - readings[-2] <= MAX_IDLE_CPU_SECONDS

    wait_until(is_idle, "an idle worker", seconds=30, poll_interval_seconds=0.5)
    return readings[-1]


def count_ended_seconds() -> float:
    """Return the CPU time of this process's children that have ended, and of their own."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_a_worker_gives_back_what_it_cannot_finish_on_sigterm(start_worker: StartWorker, settings: Settings) -> None:
    with start_worker(60.0, drain_seconds=1.0) as worker:
        interactive = build_sync_request(formats=("labels",))
        payload = InputPayload(png(), seconds=60)
        worker.jobs.create(interactive, message=encode_message(job_queue(interactive)), payload=payload)
        requests = [interactive, *(worker.submit() for _ in range(4))]
        worker.wait_for(JobState.RUNNING, *requests)

        os.kill(worker.process.pid, signal.SIGTERM)

        worker.wait_for(JobState.QUEUED, *requests, seconds=3.0)
        wait_until(lambda: not worker.process.is_alive, seconds=15)
        assert worker.process.exit_code == 0
        # At once, and uncounted: another worker finds a message and the place of each, and the image of each.
        assert {worker.get(request).stalls for request in requests} == {0}
        for request in requests:
            claim = worker.jobs.attempts.claim(request.model, worker="other", priorities=[request.priority])
            assert isinstance(claim, Claim)
        assert PayloadStore(connect(settings, decode=False)).get_input(interactive.id) == png()


def test_no_process_keeps_shared_memory_after_a_kill(start_worker: StartWorker) -> None:
    with start_worker(0.0) as worker:
        first = worker.list_hosts()
        before = count_slab_files(worker.process.pid)

        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: len(worker.list_hosts()) == HOSTS and first[0] not in worker.list_hosts())

        wait_until(lambda: count_slab_files(worker.process.pid) == before)


def count_slab_files(pid: int) -> int:
    """Return how many pools of shared memory a process has open."""
    return sum("maskmill-slabs" in str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir())


def is_running(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
