"""Redis is away for some seconds: worker, heartbeat and leases go on within two seconds of its return."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from deploy.local.processes import Process
from deploy.local.servers import ValkeyServer, free_ports
from shared import redis_keys
from shared.broker.app import make_celery
from shared.broker.envelope import encode_message
from shared.broker.reconnection import SteadyConnection
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest, JobState
from shared.jobs.store import Claim, JobStore, open_job_store
from shared.redis_client import RedisClient, connect
from shared.settings import Settings
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.environment import copy_environment
from tests.support.jobs import build_request
from tests.support.polling import wait_until
from worker.pipeline.leases import LeaseKeeper
from worker.runtime.heartbeat import Heartbeat

ROOT = Path(__file__).resolve().parents[2]
# By kombu's own delays a worker would try again after 6 s and after 12 s.
OUTAGE_SECONDS = 7.0
MAX_SECONDS = 2.0
# Renewed every 6 s: once during the outage.
LEASE_SECONDS = 18.0
OTHER_MODEL = "other/model"
WORKER_ID = "reconnecting"


class EnoughTries(Exception):
    """Ends a connection's tries to connect."""


@pytest.fixture(scope="module")
def seconds_after_return(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, float]]:
    """One outage, seen by a worker process without images, a heartbeat and a held lease: when each went on."""
    folder = tmp_path_factory.mktemp("reconnecting")
    with ValkeyServer(folder / "valkey", *free_ports(1)) as valkey:
        settings = Settings(redis_url=valkey.wait_ready().url, lease_seconds=LEASE_SECONDS)
        client = connect(settings)
        jobs = open_job_store(client, settings)
        with run_worker(settings, folder / "worker.log"), beat(client), hold_lease(jobs) as held:
            first = submit(jobs)
            wait_until(lambda: is_completed(jobs, first), seconds=30.0)
            expires_at = get_expiry(valkey.url, held)
            valkey.kill()
            until = time.monotonic() + OUTAGE_SECONDS
            wait_until(lambda: time.monotonic() >= until, seconds=2 * OUTAGE_SECONDS)
            valkey.start().wait_ready()
            # It expires in an outage that lasts longer than this one.
            client.delete(redis_keys.worker(WORKER_ID))
            job = submit(jobs)
            yield measure(
                {
                    "job": lambda: is_completed(jobs, job),
                    "heartbeat": lambda: client.exists(redis_keys.worker(WORKER_ID)),
                    "lease": lambda: get_expiry(valkey.url, held) > expires_at,
                }
            )


@pytest.mark.parametrize("what", ["job", "heartbeat", "lease"])
def test_it_goes_on_within_two_seconds(seconds_after_return: Mapping[str, float], what: str) -> None:
    assert seconds_after_return[what] <= MAX_SECONDS


def test_the_delay_between_two_tries_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []

    def observe(_error: Exception, delay: float) -> None:
        delays.append(delay)
        if len(delays) > 150 or delay > 0.001:
            raise EnoughTries

    monkeypatch.setattr(SteadyConnection, "retry_interval_seconds", 0.001)
    app = make_celery(Settings(redis_url=f"redis://127.0.0.1:{free_ports(1)[0]}/0"))

    with pytest.raises(EnoughTries):
        app.connection_for_read().ensure_connection(observe, app.conf.broker_connection_max_retries)

    assert set(delays) == {0.001}


@contextmanager
def run_worker(settings: Settings, log: Path) -> Iterator[None]:
    env = {**copy_environment(), "MASKMILL_REDIS_URL": settings.redis_url, "PYTHONPATH": str(ROOT)}
    with Process("The worker", [sys.executable, "-m", "tests.bench.transport_worker"], log=log, env=env):
        yield


@contextmanager
def beat(client: RedisClient) -> Iterator[None]:
    status = WorkerStatus(WORKER_ID, OTHER_MODEL, WorkerState.READY, device="cpu", since=0.0)
    heartbeat = Heartbeat(WorkerRegistry(client), status)
    heartbeat.start()
    yield
    heartbeat.stop()


@contextmanager
def hold_lease(jobs: JobStore) -> Iterator[Claim]:
    submit(jobs, model=OTHER_MODEL)
    claim = jobs.attempts.claim(OTHER_MODEL, worker=WORKER_ID)
    assert isinstance(claim, Claim)
    keeper = LeaseKeeper(jobs, lease_seconds=LEASE_SECONDS)
    keeper.start()
    with keeper.hold(claim):
        yield claim
    keeper.stop()


def submit(jobs: JobStore, **changes: object) -> JobRequest:
    request = build_request(**changes)
    jobs.create(request, message=encode_message(job_queue(request)))
    return request


def is_completed(jobs: JobStore, request: JobRequest) -> bool:
    return jobs.get(request.id).state is JobState.SUCCEEDED


def get_expiry(url: str, held: Claim) -> float:
    with redis.Redis.from_url(url) as client:
        return float(client.zscore(redis_keys.LEASES, held.request.id))


def measure(conditions: Mapping[str, Callable[[], object]]) -> Mapping[str, float]:
    """Return after how many seconds each condition held."""
    started = time.monotonic()
    found: dict[str, float] = {}

    def note() -> bool:
        held = {name for name, holds in conditions.items() if name not in found and holds()}
        found.update(dict.fromkeys(held, time.monotonic() - started))
        return len(found) == len(conditions)

    wait_until(note, seconds=30.0)
    return found
