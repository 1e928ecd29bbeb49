"""A real Celery worker fills its slots: interactive jobs beside a backlog, lent slots, an orderly and a sudden end."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from deploy.local.processes import Process
from shared.broker.envelope import encode_message
from shared.broker.queues import JobQueue
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest, JobState, Priority
from shared.jobs.store import JobStore, open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import open_bucket
from tests.support.environment import copy_environment, get_fields
from tests.support.gated_worker import DEATH_EXIT_CODE, GATE, LENDING, STARTED
from tests.support.jobs import build_request
from tests.support.polling import wait_until
from tests.support.steward import build_steward

SEQUENTIAL_JOBS = 8


@dataclass(frozen=True)
class Service:
    """The stores of a worker with one regular slot, one for interactive jobs and one to lend."""

    settings: Settings
    client: redis.Redis
    jobs: JobStore
    env: dict[str, str]
    folder: Path

    @contextmanager
    def run_worker(self, *arguments: str) -> Iterator[Process]:
        command = [sys.executable, "-m", "tests.support.gated_worker", *arguments]
        log = self.folder / f"worker{'-'.join(arguments)}.log"
        with Process("The worker", command, log=log, env=self.env) as worker:
            yield worker
            worker.kill()

    def submit(self, **changes: object) -> JobRequest:
        request = build_request(**changes)
        self.jobs.create(request, message=encode_message(job_queue(request)))
        return request

    def has_started(self, request: JobRequest) -> bool:
        return bool(self.client.exists(STARTED + request.id))

    def wait_started(self, request: JobRequest) -> None:
        wait_until(lambda: self.has_started(request), seconds=60)

    def open_gate(self, *requests: JobRequest) -> None:
        for request in requests:
            self.client.set(GATE + request.id, "")

    def wait_succeeded(self, *requests: JobRequest) -> None:
        wait_until(lambda: all(self.get_state(request) is JobState.SUCCEEDED for request in requests), seconds=30)

    def get_state(self, request: JobRequest) -> JobState:
        return self.jobs.get(request.id).state


@pytest.fixture
def service(clean_redis: str, storage_env: dict[str, str], tmp_path: Path) -> Service:
    settings = Settings(redis_url=clean_redis, **get_fields(storage_env))
    environment = copy_environment()
    env = environment | storage_env | {"MASKMILL_REDIS_URL": clean_redis, "MASKMILL_WORKER_THREADS": "1"}
    client = redis.Redis.from_url(clean_redis, decode_responses=True)
    return Service(settings, client, open_job_store(connect(settings), settings), env, tmp_path)


def test_an_interactive_job_runs_beside_a_backlog(service: Service) -> None:
    with service.run_worker():
        first, second = service.submit(), service.submit()
        service.wait_started(first)
        urgent = service.submit(priority=Priority.INTERACTIVE)
        service.wait_started(urgent)

        assert not service.has_started(second)
        service.open_gate(first, second, urgent)
        service.wait_succeeded(first, second, urgent)


def test_a_slot_for_interactive_jobs_runs_no_other_job(service: Service) -> None:
    with service.run_worker():
        running, waiting = service.submit(), service.submit()
        service.wait_started(running)
        urgent = [service.submit(priority=Priority.INTERACTIVE) for _ in range(3)]
        for request in urgent:
            service.wait_started(request)
            service.open_gate(request)
        service.wait_succeeded(*urgent)

        assert not service.has_started(waiting)
        assert service.client.llen(job_queue(waiting)) == 1
        service.open_gate(running, waiting)
        service.wait_succeeded(running, waiting)


@pytest.mark.parametrize("is_reconnected", [False, True])
def test_a_regular_slot_that_becomes_free_is_soon_used(service: Service, is_reconnected: bool) -> None:
    """While a job runs the worker polls the interactive queue only; it must not do so for a second."""

    def run_job() -> None:
        request = service.submit()
        service.wait_started(request)
        # The poll that had begun before ends with this job.
        urgent = service.submit(priority=Priority.INTERACTIVE)
        service.open_gate(request, urgent)
        service.wait_succeeded(urgent, request)

    with service.run_worker():
        run_job()
        if is_reconnected:
            service.client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            run_job()
        started = time.monotonic()
        for _ in range(SEQUENTIAL_JOBS):
            run_job()

    assert time.monotonic() - started < SEQUENTIAL_JOBS / 2


def test_a_job_that_lends_its_slot_lets_another_one_run(service: Service) -> None:
    with service.run_worker():
        slow = service.submit(request_id=LENDING)
        service.wait_started(slow)
        other = service.submit()
        service.wait_started(other)

        service.open_gate(other)
        service.wait_succeeded(other)
        assert service.get_state(slow) is JobState.RUNNING
        service.open_gate(slow)
        service.wait_succeeded(slow)


def test_a_worker_that_drains_completes_its_job_and_leaves_the_others(service: Service) -> None:
    with service.run_worker() as worker:
        running, waiting = service.submit(), service.submit()
        service.wait_started(running)
        os.kill(worker.pid, signal.SIGTERM)
        wait_until(lambda: "worker_draining" in worker.log.read_text(), seconds=10)
        service.open_gate(running)
        wait_until(lambda: worker.exit_code is not None, seconds=30)

    assert service.get_state(running) is JobState.SUCCEEDED
    assert service.jobs.get(waiting.id).attempt == 0
    assert service.client.llen(job_queue(waiting)) == 1


def test_a_job_whose_message_was_taken_by_a_killed_worker_runs_on_another(service: Service) -> None:
    request = service.submit()
    with service.run_worker("--die-at-message") as doomed:
        wait_until(lambda: doomed.exit_code == DEATH_EXIT_CODE, seconds=60)
    assert service.client.llen(job_queue(request)) == 0
    steward = build_steward(service.settings, service.jobs, open_bucket(service.settings))

    def is_republished() -> bool:
        steward.reconcile()
        return not JobQueue(connect(service.settings)).missing_count(job_queue(request))

    wait_until(is_republished)
    service.open_gate(request)
    with service.run_worker():
        service.wait_succeeded(request)
