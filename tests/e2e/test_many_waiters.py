"""Many synchronous requests at once: the memory that they take while they wait, and one forward pass for all."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from api.model_registry import CACHE_SECONDS
from deploy.local.stack import Stack
from tests.support.environment import copy_environment
from tests.support.jobs import png
from tests.support.polling import wait_until

REQUESTS = 500
MAX_MEGABYTES = 600


@pytest.fixture
def stack_without_worker(tmp_path: Path) -> Iterator[Stack]:
    """A whole service whose worker has ended and is reported as offline by every gateway process."""
    environ = copy_environment()
    with Stack(tmp_path, environ=environ) as running:
        running.start()
        running.worker.stop()
        # Gateway processes cache the registry for CACHE_SECONDS.  One that still lists the worker would put its model
        # revision into the deduplication key, and its requests would not be coalesced with the others.
        wait_until(lambda: get_model_state(running) == "offline", seconds=30)
        cache_expired_at = time.monotonic() + CACHE_SECONDS
        wait_until(lambda: time.monotonic() > cache_expired_at)
        yield running


def test_five_hundred_requests_fit_in_600_megabytes_and_share_one_pass(stack_without_worker: Stack) -> None:
    statuses = asyncio.run(send_and_release(stack_without_worker))

    assert statuses[200] == REQUESTS
    # The callers have their reply before the job has ended.
    wait_until(lambda: count_ended_jobs(stack_without_worker) == 1, seconds=30)


def get_model_state(service: Stack) -> str:
    [model] = service.client.request("GET", "/v1/models").json()["models"]
    return str(model["state"])


async def send_and_release(service: Stack) -> Counter[int]:
    requests = [asyncio.create_task(send(service.port)) for _ in range(REQUESTS)]
    await asyncio.to_thread(wait_until, lambda: count_waiting(service) == REQUESTS, seconds=60)
    megabytes = sum(resident_megabytes(pid) for pid in process_tree(service.gateway.pid))
    print(f"{REQUESTS} waiting requests: {megabytes:.0f} MB in the gateway's processes")
    assert megabytes < MAX_MEGABYTES
    service.start_worker()
    return Counter(await asyncio.gather(*requests))


async def send(port: int) -> int:
    """Send one request over a connection of its own and return the status of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    image = png(64, 48)
    head = (
        f"POST / HTTP/1.1\r\nHost: [::1]\r\nx-wait-for-model: true\r\nConnection: close\r\nContent-Length: {len(image)}"
    )
    writer.write(head.encode() + b"\r\n\r\n" + image)
    await writer.drain()
    status = int((await reader.readline()).split()[1])
    await reader.read()
    writer.close()
    return status


def count_waiting(service: Stack) -> int:
    """Return how many requests wait for the only job."""
    with redis.Redis.from_url(service.valkey.url) as client:
        return sum(int(client.hget(key, "waiters") or 0) for key in client.scan_iter("mm:job:*"))


def count_ended_jobs(service: Stack) -> int:
    return sum(log.read_text().count('"job_completed"') for log in (service.data / "logs").glob("worker*.log"))


def process_tree(pid: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(deeper for child in children for deeper in process_tree(int(child)))]


def resident_megabytes(pid: int) -> float:
    """Return the proportional set size of a process: shared pages count in equal parts."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
