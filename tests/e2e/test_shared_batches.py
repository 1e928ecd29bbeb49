"""Callers who ask for different things at once share forward passes; those who ask for the same share one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from io import BytesIO

import pytest
from PIL import Image

from deploy.local.stack import Stack

CALLERS = 50


@pytest.fixture
def passes(stack: Stack) -> Iterator["Passes"]:
    """The forward passes of the worker since the test began."""
    yield Passes(stack)


class Passes:
    """Reads the worker's own figures."""

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
        figures = (line.removeprefix(name).split() for line in lines if line.startswith(name))
        return {what: float(value) for what, value in figures if what in ("sum", "count")}


def plain_photo(shade: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (64, 48), (shade, 90, 255 - shade)).save(buffer, "PNG")
    return buffer.getvalue()


def ask(service: Stack, image: bytes) -> int:
    return service.client.request("POST", "/", image).status


def test_fifty_different_requests_share_forward_passes(stack: Stack, passes: Passes) -> None:
    with ThreadPoolExecutor(CALLERS) as pool:
        statuses = list(pool.map(lambda shade: ask(stack, plain_photo(shade)), range(CALLERS)))

    print(f"{CALLERS} different requests: {passes.count:.0f} passes, {passes.images / passes.count:.1f} images each")
    assert set(statuses) == {200}
    assert passes.images == CALLERS
    assert passes.images / passes.count >= 2


def test_fifty_identical_requests_cause_one_forward_pass(stack: Stack, passes: Passes) -> None:
    image = plain_photo(255)

    with ThreadPoolExecutor(CALLERS) as pool:
        statuses = list(pool.map(lambda _: ask(stack, image), range(CALLERS)))

    assert set(statuses) == {200}
    assert passes.count == passes.images == 1
