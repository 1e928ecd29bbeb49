"""Many synchronous callers at once: what each of them costs while he waits, and that all are answered by one pass."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from api.inference.model_registry import KEEP_SECONDS
from deploy.local.stack import Stack
from tests.support.jobs import png
from tests.support.polling import wait_until

WAITERS = 500
MOST_MEGABYTES = 600


@pytest.fixture
def workerless(tmp_path: Path) -> Iterator[Stack]:
    """A whole service whose worker was killed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")}
    with Stack(tmp_path, environ=environ) as running:
        running.start()
        running.worker.kill()
        # Its last heartbeat is believed for a while, and by a gateway process that has just looked a little longer: it
        # would name the revision in what it is asked for, and so not share the work with the others.
        wait_until(lambda: state_of_model(running) == "offline", seconds=30)
        nobody_believes = time.monotonic() + KEEP_SECONDS
        wait_until(lambda: time.monotonic() > nobody_believes)
        yield running


def test_five_hundred_waiters_fit_in_600_megabytes_and_share_one_pass(workerless: Stack) -> None:
    answers = asyncio.run(hold_and_release(workerless))

    assert answers[200] == WAITERS
    assert ended_jobs(workerless) == 1


def state_of_model(service: Stack) -> str:
    [model] = service.client.request("GET", "/v1/models").json()["models"]
    return str(model["state"])


async def hold_and_release(service: Stack) -> Counter[int]:
    requests = [asyncio.create_task(ask(service.port)) for _ in range(WAITERS)]
    await asyncio.to_thread(wait_until, lambda: waiting(service) == WAITERS, seconds=60)
    megabytes = sum(resident_megabytes(pid) for pid in family(service.gateway.pid))
    print(f"{WAITERS} waiters: {megabytes:.0f} MB in the gateway's processes")
    assert megabytes < MOST_MEGABYTES
    service.start_worker()
    return Counter(await asyncio.gather(*requests))


async def ask(port: int) -> int:
    """Send one request over a connection of its own and return the status of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    image = png(64, 48)
    head = (
        f"POST / HTTP/1.1\r\nHost: test\r\nx-wait-for-model: true\r\nConnection: close\r\nContent-Length: {len(image)}"
    )
    writer.write(head.encode() + b"\r\n\r\n" + image)
    await writer.drain()
    status = int((await reader.readline()).split()[1])
    await reader.read()
    writer.close()
    return status


def waiting(service: Stack) -> int:
    """Return how many callers wait for the one job that there is."""
    with redis.Redis.from_url(service.valkey.url) as client:
        return sum(int(client.hget(key, "waiters") or 0) for key in client.scan_iter("mm:job:*"))


def ended_jobs(service: Stack) -> int:
    return sum(log.read_text().count('"job_ended"') for log in (service.data / "logs").glob("worker*.log"))


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(deeper for child in children for deeper in family(int(child)))]


def resident_megabytes(pid: int) -> float:
    """Return what a process has in memory; what it shares with others is counted in equal parts."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
