"""Images that take much time or memory to decode do not hold up others, nor fill the memory of a worker."""

import statistics
import time
from collections.abc import Callable, Iterator

import pytest

from deploy.local.stack import Stack
from tests.support.environment import copy_environment
from tests.support.hostile_images import build_interlaced_png, build_large_webp, build_slow_jpeg
from tests.support.images import coffee, jpeg
from tests.support.polling import wait_until
from tests.support.process_memory import read_memory, watch_memory

ATTACKERS = 8
CALLS = 5
# An ordinary photo may take this much longer than usual.
MAX_DELAY_SECONDS = 2.0
MAX_MEMORY_BYTES = 3_000_000_000
# What a worker may keep of the memory that a burst took.
MAX_KEPT_BYTES = 300_000_000
SIDE = 8000

ATTACKS = {
    "jpeg with the most scans that are accepted": lambda: build_slow_jpeg(side=SIDE, scans=20),
    "png that is interlaced": lambda: build_interlaced_png(side=SIDE),
    "webp that is large, turned and transparent": lambda: build_large_webp(side=SIDE),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole service of its own, because the memory of its worker is measured."""
    with Stack(tmp_path_factory.mktemp("hostile"), environ=copy_environment()) as running:
        yield running.start()


def time_call(stack: Stack) -> float:
    """Return the seconds of a synchronous call with an ordinary photo that is not in the cache."""
    photo = jpeg(coffee()) + time.monotonic_ns().to_bytes(8, "big")
    start = time.monotonic()
    response = stack.client.request("POST", "/models/maskmill/embedded?threshold=0.5", photo)
    assert response.is_ok, response.body
    return time.monotonic() - start


@pytest.mark.timeout(400)
@pytest.mark.parametrize("build", ATTACKS.values(), ids=list(ATTACKS))
def test_an_ordinary_photo_is_answered_while_others_are_hard_to_decode(
    service: Stack, build: Callable[[], bytes]
) -> None:
    time_call(service)
    usual = statistics.median(time_call(service) for _ in range(CALLS))
    idle_bytes = read_memory(service.worker.pid)
    hostile = build()

    with watch_memory(service.worker.pid) as peak:
        jobs = [
            service.client.post("/v1/jobs?formats=labels,overlay", hostile + bytes([number])).json()["id"]
            for number in range(ATTACKERS)
        ]
        meanwhile = [time_call(service) for _ in range(CALLS)]
        wait_until(lambda: all(is_final(service, job) for job in jobs), "the end of all jobs", seconds=300)

    print(f"usual {usual:.2f} s, meanwhile {max(meanwhile):.2f} s at most, peak {peak.nbytes / 1e9:.2f} GB")
    assert max(meanwhile) < usual + MAX_DELAY_SECONDS
    assert peak.nbytes < MAX_MEMORY_BYTES
    assert {read_attempt(service, job) for job in jobs} == {1}
    wait_until(lambda: read_memory(service.worker.pid) < idle_bytes + MAX_KEPT_BYTES, "memory back", seconds=60)


def is_final(stack: Stack, job_id: str) -> bool:
    return stack.client.get(f"/v1/jobs/{job_id}").json()["state"] not in ("queued", "running")


def read_attempt(stack: Stack, job_id: str) -> int:
    """Return which attempt ended a job: a lost one would have been followed by another."""
    return int(stack.client.get(f"/v1/jobs/{job_id}").json()["attempt"])
