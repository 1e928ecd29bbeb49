"""Watching jobs: polls of a queued job and of one that has ended, by one client over one connection.

The gateway has one process, and 500 jobs are queued.  CPU time is that of the gateway and that of Valkey for one poll.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from shared.jobs.store import open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from tests.bench.cpu_time import read_cpu_seconds
from tests.bench.measurement import Measurement, Workload, print_progress
from tests.bench.queue import servers
from tests.bench.service import Client
from tests.support.environment import copy_environment
from tests.support.jobs import png
from tests.support.raw_gateway import RawGateway

QUEUED = 500


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure polls of each kind of job."""
    with servers() as settings, open_gateway(settings) as gateway:
        client = Client(gateway.port)
        ids = [str(client.request("POST", "/v1/jobs", png())[1]["id"]) for _ in range(QUEUED)]
        client.request("DELETE", f"/v1/jobs/{ids[0]}")
        server = redis.Redis.from_url(settings.redis_url)
        pids = {"gateway": gateway.pid, "valkey": int(server.info("server")["process_id"])}
        record = server.memory_usage(f"mm:job:{ids[-1]}", samples=0)
        assert open_job_store(connect(settings), settings).is_known(ids[-1])
        for state, job_id in (("queued", ids[-1]), ("canceled", ids[0])) * 3:
            print_progress(f"polls: {state}")
            yield measure(client, pids, f"/v1/jobs/{job_id}", state, workload.seconds, record)


@contextmanager
def open_gateway(settings: Settings, **further: object) -> Iterator[RawGateway]:
    """Run a gateway of one process."""
    env = copy_environment() | {
        "MASKMILL_REDIS_URL": settings.redis_url,
        "MASKMILL_STORAGE_ENDPOINT": settings.storage_endpoint,
        "MASKMILL_STORAGE_BUCKET": settings.storage_bucket,
        "MASKMILL_STORAGE_ACCESS_KEY": settings.storage_access_key,
        "MASKMILL_STORAGE_SECRET_KEY": settings.storage_secret_key.get_secret_value(),
        "MASKMILL_PROCESSES": "1",
        "MASKMILL_METRICS_BIND": "off",
        "MASKMILL_LOG_LEVEL": "error",
        **{f"MASKMILL_{name.upper()}": str(value) for name, value in further.items()},
    }
    with tempfile.TemporaryDirectory(prefix="maskmill-bench-") as folder, RawGateway(Path(folder), env) as gateway:
        yield gateway.wait_ready()


def measure(
    client: Client, pids: dict[str, int], path: str, state: str, seconds: float, record_bytes: int | None
) -> Measurement:
    before = {name: read_cpu_seconds([pid]) for name, pid in pids.items()}
    started, count = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        client.request("GET", path)
        count += 1
    rate = count / (time.monotonic() - started)
    cpu_ms = {
        f"{name} ms": round(1000 * (read_cpu_seconds([pid]) - before[name]) / count, 3) for name, pid in pids.items()
    }
    figures = {"polls_per_second": round(rate, 1), **cpu_ms, "record_bytes": record_bytes}
    return Measurement("polls", {"state": state, "queued": QUEUED, "cores": os.cpu_count()}, figures)
