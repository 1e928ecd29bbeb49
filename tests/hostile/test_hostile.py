"""Every hostile input has its status, in time and with a documented error; and the processes give their memory back."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.stack import Stack
from tests.hostile.inputs import HostileInput, send_image
from tests.hostile.runner import Service, find_fault
from tests.hostile.table import INPUTS
from tests.support.hostile_images import build_interlaced_png, build_large_webp, build_slow_jpeg
from tests.support.images import coffee, jpeg
from tests.support.polling import wait_until
from tests.support.process_memory import read_memory, watch_memory

MIN_INPUTS = 150
MAX_KEPT_BYTES = 150_000_000
MAX_PEAK_BYTES = 3_000_000_000
SIDE = 8000  # 64 megapixels, the most that are accepted
AT_ONCE = 8
pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads the memory from /proc")


@pytest.fixture(scope="module")
def service(stack: Stack) -> Service:
    return Service(stack.url)


@pytest.fixture(scope="module")
def memory_before(stack: Stack, service: Service) -> Iterator[tuple[int, int]]:
    """The memory of gateway and worker after some ordinary photos, in bytes."""
    for number in range(4):
        photo = send_image("photo", 200, lambda number=number: jpeg(coffee()) + bytes([number]))
        assert find_fault(photo, service.send(photo)) is None
    yield read_memory(stack.gateway.pid), read_memory(stack.worker.pid)


def test_there_are_enough_inputs_of_every_kind() -> None:
    assert len(INPUTS) >= MIN_INPUTS


@pytest.mark.usefixtures("memory_before")
@pytest.mark.parametrize("given", INPUTS.values(), ids=list(INPUTS))
def test_a_hostile_input_has_its_status_in_time(service: Service, given: HostileInput) -> None:
    assert find_fault(given, service.send(given)) is None


@pytest.mark.timeout(300)
def test_eight_of_the_largest_images_at_once_stay_within_the_memory(stack: Stack, service: Service) -> None:
    files = [build_large_webp(side=SIDE), build_slow_jpeg(side=SIDE, scans=20), build_interlaced_png(side=SIDE)]
    with watch_memory(stack.worker.pid) as peak, ThreadPoolExecutor(AT_ONCE) as threads:
        sent = [send_image("large", 200, lambda n=n: files[n % len(files)] + bytes([n])) for n in range(AT_ONCE)]
        answers = list(threads.map(service.send, sent))

    print(f"peak {peak.nbytes / 1e9:.2f} GB")
    assert [answer.status for answer in answers] == [200] * AT_ONCE
    assert peak.nbytes < MAX_PEAK_BYTES


def test_gateway_and_worker_give_the_memory_back(stack: Stack, memory_before: tuple[int, int]) -> None:
    def measure_kept() -> list[int]:
        pids = (stack.gateway.pid, stack.worker.pid)
        return [read_memory(pid) - before for pid, before in zip(pids, memory_before, strict=True)]

    with contextlib.suppress(AssertionError):  # decoders end when they are idle for some time
        wait_until(lambda: max(measure_kept()) < MAX_KEPT_BYTES, seconds=60, poll_interval_seconds=1)
    kept = measure_kept()
    print(f"kept by gateway and worker: {kept[0] / 1e6:.0f} and {kept[1] / 1e6:.0f} MB")
    assert max(kept) < MAX_KEPT_BYTES, kept


def test_an_ordinary_photo_is_answered_afterwards(service: Service) -> None:
    photo = send_image("photo", 200, lambda: jpeg(coffee()) + b"afterwards")

    assert find_fault(photo, service.send(photo)) is None
