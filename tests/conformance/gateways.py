"""Gateways that fail in every documented way, with the Redis and the workers that make them fail."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from api.settings import ApiSettings
from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.processes import Process
from deploy.local.servers import LOOPBACK, ValkeyServer, free_ports
from deploy.local.stack import Stack
from shared import redis_keys
from shared.errors import EngineFailed
from shared.jobs.completion import complete_job
from shared.jobs.messages import queue_name
from shared.jobs.model import Priority
from shared.jobs.result import failed_result
from shared.jobs.store import open_job_store
from shared.redis_client import connect
from shared.storage.bucket import open_bucket
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.environment import copy_environment, get_fields
from tests.support.jobs import build_sync_request
from tests.support.periodic import run_periodically

TOKEN = "s3cret"
MAX_BODY_BYTES = 100_000
MAX_QUEUED = 50
COLD_START_SECONDS = 1.0
DEADLINE_SECONDS = 1.5
# Models, named for the fate of their jobs.
ABSENT, LOADING, SLOW, BROKEN, FULL = "test/absent", "test/loading", "test/slow", "test/broken", "test/full"
STATES = {LOADING: WorkerState.LOADING, **dict.fromkeys((SLOW, BROKEN, FULL), WorkerState.READY)}
_ROOT = Path(__file__).parents[2]
_COMMAND = [sys.executable, "-m", "api.wsgi"]
_FAULT = "The model broke on this image."
_HEARTBEAT_SECONDS = 2.0
_POLL_SECONDS = 0.05


class Gateway(Process):
    """A gateway process; ready when it is alive, even if Redis or the bucket is not."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        (port,) = free_ports(1)
        self.url = f"http://{LOOPBACK}:{port}"
        self._client = GatewayClient(port)
        required = {"MASKMILL_BIND": f"{LOOPBACK}:{port}", "MASKMILL_PROCESSES": "1", "MASKMILL_THREADS": "32"}
        plain = copy_environment()
        env = {**plain, "PYTHONPATH": str(_ROOT), **settings, **required}
        super().__init__("The gateway", _COMMAND, log=folder / "gateway.log", env=env)

    def is_ready(self) -> bool:
        try:
            return self._client.request("GET", "/healthz").is_ok
        except GatewayRefused:
            return False


@contextmanager
def run_failing_gateway(folder: Path, stack: Stack) -> Iterator[Gateway]:
    """Run a gateway that requires TOKEN, accepts bodies up to MAX_BODY_BYTES, and has no worker that succeeds.

    Its default model, ABSENT, has no worker; LOADING's worker is not ready, SLOW's claims no job, BROKEN's fails every
    job, and FULL's queue is full.
    """
    with ValkeyServer(folder / "valkey", *free_ports(1)) as valkey:
        valkey.wait_ready()
        settings = {
            **stack.env,
            "MASKMILL_REDIS_URL": valkey.url,
            "MASKMILL_STORAGE_PREFIX": "failing",
            "MASKMILL_MODEL": ABSENT,
            "MASKMILL_TOKENS": TOKEN,
            "MASKMILL_MAX_UPLOAD_BYTES": str(MAX_BODY_BYTES),
            "MASKMILL_MAX_QUEUED": str(MAX_QUEUED),
            "MASKMILL_COLD_START_SECONDS": str(COLD_START_SECONDS),
            "MASKMILL_SYNC_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        }
        with _failing_workers(settings), _wait_ready(Gateway(folder, settings)) as gateway:
            yield gateway


@contextmanager
def run_gateway_without_redis(folder: Path, stack: Stack) -> Iterator[Gateway]:
    """Run a gateway whose Redis does not answer."""
    (unused_port,) = free_ports(1)
    settings = {**stack.env, "MASKMILL_REDIS_URL": f"redis://{LOOPBACK}:{unused_port}/0"}
    with _wait_ready(Gateway(folder, settings)) as gateway:
        yield gateway


@contextmanager
def _wait_ready(gateway: Gateway) -> Iterator[Gateway]:
    with gateway:
        yield gateway.wait_ready()


@contextmanager
def _failing_workers(settings: Mapping[str, str]) -> Iterator[None]:
    """Fill the queue of FULL, report the workers of STATES, and fail every job of BROKEN."""
    gateway_settings = ApiSettings(**get_fields(settings))
    with connect(gateway_settings) as redis:
        store = open_job_store(redis, gateway_settings)
        for _ in range(MAX_QUEUED):
            store.create(build_sync_request(model=FULL))
        registry, bucket, started_at = WorkerRegistry(redis), open_bucket(gateway_settings), time.time()

        def fail_all() -> None:
            for job_id in redis.zrange(redis_keys.queued_jobs(queue_name(BROKEN, Priority.INTERACTIVE)), 0, -1):
                complete_job(failed_result(store.get(job_id).request, EngineFailed(_FAULT)), jobs=store, bucket=bucket)

        def report_all() -> None:
            for model, state in STATES.items():
                registry.report(WorkerStatus(f"of-{model}", model, state, device="cpu", since=started_at))

        report_all()
        with run_periodically(report_all, _HEARTBEAT_SECONDS), run_periodically(fail_all, _POLL_SECONDS):
            yield
