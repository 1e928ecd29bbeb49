"""Simultaneous different requests share forward passes; simultaneous identical requests share one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from io import BytesIO

import pytest
from PIL import Image

from deploy.local.stack import Stack

REQUESTS = 50


@pytest.fixture
def passes(stack: Stack) -> Iterator["ForwardPasses"]:
    """The forward passes of the worker since the start of the test."""
    yield ForwardPasses(stack)


class ForwardPasses:
    """Counts forward passes, and images in them, since its construction, from the worker's metrics."""

    def __init__(self, service: Stack) -> None:
        self._port = service.ports.probe
        self._before = self._read()

    @property
    def count(self) -> float:
        return self._read()["count"] - self._before["count"]

    @property
    def images(self) -> float:
        return self._read()["sum"] - self._before["sum"]

    def _read(self) -> dict[str, float]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        name = "maskmill_batch_images_"
        samples = (line.removeprefix(name).split() for line in lines if line.startswith(name))
        return {kind: float(value) for kind, value in samples if kind in ("sum", "count")}


def plain_image(shade: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (64, 48), (shade, 90, 255 - shade)).save(buffer, "PNG")
    return buffer.getvalue()


def segment(service: Stack, image: bytes) -> int:
    return service.client.request("POST", "/", image).status


def test_fifty_different_requests_share_forward_passes(stack: Stack, passes: ForwardPasses) -> None:
    with ThreadPoolExecutor(REQUESTS) as pool:
        statuses = list(pool.map(lambda shade: segment(stack, plain_image(shade)), range(REQUESTS)))

    print(f"{REQUESTS} different requests: {passes.count:.0f} passes, {passes.images / passes.count:.1f} images each")
    assert set(statuses) == {200}
    assert passes.images == REQUESTS
    assert passes.images / passes.count >= 2


def test_fifty_identical_requests_cause_one_forward_pass(stack: Stack, passes: ForwardPasses) -> None:
    image = plain_image(255)

    with ThreadPoolExecutor(REQUESTS) as pool:
        statuses = list(pool.map(lambda _: segment(stack, image), range(REQUESTS)))

    assert set(statuses) == {200}
    assert passes.count == passes.images == 1
