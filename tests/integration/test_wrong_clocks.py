"""Machines whose clocks are wrong by minutes: gateways and a worker decide by the clock of Redis alone."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.processes import Process
from deploy.local.servers import free_ports
from shared.broker.envelope import encode_message
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest, JobState, Priority
from shared.jobs.store import JobStore, open_job_store
from shared.redis_client import connect
from shared.rfc3339 import parse_timestamp
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from shared.worker_registry import WorkerRegistry, WorkerState
from tests.support.environment import copy_environment, get_fields
from tests.support.jobs import build_request, png, store_input
from tests.support.polling import wait_until

START_SECONDS = 60.0
WRONG_SECONDS = (130.0, -130.0)
WRONG_CLOCK = Path(__file__).parents[1] / "support" / "wrong_clock"
BATCH_SECONDS = 0.4


@dataclass(frozen=True)
class ServiceUnderTest:
    """A gateway whose clock is ahead, one whose clock is behind, and a worker."""

    gateways: tuple[GatewayClient, ...]
    jobs: JobStore
    bucket: Bucket
    workers: WorkerRegistry

    def submit(self, **changes: object) -> JobRequest:
        """Submit a job as a gateway does."""
        request = build_request(created_at=self.jobs.clock.now(), formats=("labels",), **changes)
        store_input(self.bucket, request)
        self.jobs.create(request, message=encode_message(job_queue(request)))
        return request

    def get_state(self, request: JobRequest) -> JobState:
        return self.jobs.get(request.id).state


@pytest.fixture
def settings(clean_redis: str, storage_env: Mapping[str, str]) -> Settings:
    return Settings(redis_url=clean_redis, **get_fields(storage_env))


@pytest.fixture(params=WRONG_SECONDS, ids=["worker_ahead", "worker_behind"])
def service(
    request: pytest.FixtureRequest, settings: Settings, storage_env: Mapping[str, str], tmp_path: Path
) -> Iterator[ServiceUnderTest]:
    """The service, with a worker whose clock is wrong and whose batches take BATCH_SECONDS."""
    env = {
        **copy_environment(),
        **storage_env,
        "MASKMILL_REDIS_URL": settings.redis_url,
        "PYTHONPATH": str(WRONG_CLOCK),
    }
    ports = free_ports(len(WRONG_SECONDS))
    with ExitStack() as stack:

        def start(name: str, ahead: float, *command: str, **own: str) -> Process:
            process = Process(
                name,
                [sys.executable, "-m", *command],
                log=tmp_path / f"{name}.log",
                env=env | own | {"MACHINE_AHEAD_SECONDS": str(ahead)},
            )
            return stack.enter_context(process)

        worker = start(
            "worker", request.param, "tests.bench.instant_worker", str(BATCH_SECONDS), MASKMILL_HOST_PROCESSES="1"
        )
        gateways = [
            start(
                f"gateway_{port}",
                ahead,
                "api.wsgi",
                MASKMILL_BIND=f"127.0.0.1:{port}",
                MASKMILL_METRICS_BIND="off",
                MASKMILL_PROCESSES="1",
            )
            for port, ahead in zip(ports, WRONG_SECONDS, strict=True)
        ]
        found = ServiceUnderTest(
            tuple(GatewayClient(port) for port in ports),
            open_job_store(connect(settings), settings),
            open_bucket(settings),
            WorkerRegistry(connect(settings)),
        )
        wait_until(lambda: is_ready(found, [worker, *gateways]), seconds=START_SECONDS)
        yield found
        for process in [worker, *gateways]:
            process.kill()


def is_ready(service: ServiceUnderTest, processes: list[Process]) -> bool:
    for process in processes:
        process.check_alive()
    return any(worker.state is WorkerState.READY for worker in service.workers.snapshot().workers) and all(
        has_started(gateway) for gateway in service.gateways
    )


def has_started(gateway: GatewayClient) -> bool:
    try:
        return gateway.request("GET", "/readyz").is_ok
    except GatewayRefused:
        return False


def test_wrong_clocks_change_nothing(service: ServiceUnderTest) -> None:
    now = service.jobs.clock.now()
    (worker,) = service.workers.snapshot().workers
    assert now - START_SECONDS < worker.since <= now + 1

    for gateway in service.gateways:
        segments = gateway.request("POST", "/", body=png(), content_type="image/png")
        assert len(segments.raise_for_status().json()) == 2
        job = gateway.request("POST", "/v1/jobs", body=png(7, 5), content_type="image/png").raise_for_status().json()
        assert now - 0.001 <= parse_timestamp(job["created_at"]) <= now + START_SECONDS

    in_time = service.submit(deadline_at=service.jobs.clock.now() + 30)
    wait_until(lambda: service.get_state(in_time) is JobState.SUCCEEDED, seconds=20)
    assert 0 <= service.jobs.get(in_time.id).timings_ms["queue"] < 20_000

    # The device is busy until after the deadline, which the worker has to see by itself: it has claimed the job.
    first = service.submit()
    wait_until(lambda: service.get_state(first) is JobState.RUNNING, seconds=20)
    late = service.submit(deadline_at=service.jobs.clock.now() + BATCH_SECONDS / 4, priority=Priority.INTERACTIVE)
    wait_until(lambda: service.get_state(late).is_final, seconds=20)
    assert service.get_state(late) is JobState.EXPIRED
