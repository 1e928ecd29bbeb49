"""An image of 100 megapixels, where the settings allow it, is segmented within a bound of memory."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from deploy.local.processes import Process
from deploy.local.stack import Stack
from tests.support.environment import copy_environment
from tests.support.images import astronaut
from tests.support.polling import wait_until

SIDE = 10_000
PIXELS = SIDE * SIDE
# The decoded image itself takes 0.3 GB.
MAX_BYTES = 1_500_000_000


@pytest.fixture
def stack_for_huge_images(tmp_path: Path) -> Iterator[Stack]:
    """A service whose settings allow such images."""
    plain = copy_environment()
    raised = {"MASKMILL_MAX_IMAGE_PIXELS": str(PIXELS), "MASKMILL_MAX_DECODE_MEGAPIXELS": str(PIXELS / 1e6)}
    with Stack(tmp_path / "data", environ=plain | raised) as running:
        yield running.start()


class Memory:
    """Peak memory of a process above its resident memory when this object was made, from /proc."""

    def __init__(self, process: Process) -> None:
        self._folder = Path(f"/proc/{process.pid}")
        (self._folder / "clear_refs").write_text("5")  # resets the peak (VmHWM)
        self._idle = self._bytes("VmRSS")

    @property
    def extra_at_peak(self) -> int:
        return self._bytes("VmHWM") - self._idle

    def _bytes(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def huge_jpeg() -> bytes:
    buffer = BytesIO()
    astronaut().resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def run_job(service: Stack, image: bytes) -> dict[str, object]:
    job = service.client.request("POST", "/v1/jobs?threshold=0.5", image).json()
    view: dict[str, object] = {}

    def is_final() -> bool:
        view.update(service.client.get(f"/v1/jobs/{job['id']}").json())
        return view["state"] not in ("queued", "running")

    wait_until(is_final, "the end of the job", seconds=120, poll_interval_seconds=0.2)
    return view


def test_an_image_of_100_megapixels_takes_less_than_one_and_a_half_gigabytes(stack_for_huge_images: Stack) -> None:
    image = huge_jpeg()
    memory = Memory(stack_for_huge_images.worker)

    job = run_job(stack_for_huge_images, image)

    print(f"{memory.extra_at_peak / 1e6:.0f} MB beyond {job['timings_ms']}")
    assert job["state"] == "succeeded", job
    result = stack_for_huge_images.client.get(f"/v1/jobs/{job['id']}/result").json()
    assert result["segments"]
    assert (result["image"]["width"], result["image"]["height"]) == (SIDE, SIDE)
    assert memory.extra_at_peak < MAX_BYTES
