"""A photo of 100 megapixels, where the operator lets it in, is segmented within the memory that the runbook names."""

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from deploy.local.processes import Process
from deploy.local.stack import Stack
from tests.support.images import astronaut
from tests.support.polling import wait_until

SIDE = 10_000
PIXELS = SIDE * SIDE
# The photo itself is 0.3 GB once it is decoded.
MOST_BYTES = 1_500_000_000


@pytest.fixture
def roomy_stack(tmp_path: Path) -> Iterator[Stack]:
    """A service that takes such photos."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")}
    raised = {"MASKMILL_MAX_IMAGE_PIXELS": str(PIXELS), "MASKMILL_MAX_DECODE_MEGAPIXELS": str(PIXELS / 1e6)}
    with Stack(tmp_path / "data", environ=plain | raised) as running:
        yield running.start()


class Memory:
    """What a process takes beyond what it had when this began, by the kernel's own count."""

    def __init__(self, process: Process) -> None:
        self._folder = Path(f"/proc/{process.pid}")
        (self._folder / "clear_refs").write_text("5")  # the peak begins anew
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


def run_job(service: Stack, photo: bytes) -> dict[str, object]:
    job = service.client.request("POST", "/v1/jobs?threshold=0.5", photo).json()
    ended: dict[str, object] = {}

    def has_ended() -> bool:
        ended.update(service.client.get(f"/v1/jobs/{job['id']}").json())
        return ended["state"] not in ("queued", "running")

    wait_until(has_ended, "the job's end", seconds=120, pause=0.2)
    return ended


def test_a_photo_of_100_megapixels_takes_less_than_one_and_a_half_gigabytes(roomy_stack: Stack) -> None:
    photo = huge_jpeg()
    memory = Memory(roomy_stack.worker)

    job = run_job(roomy_stack, photo)

    print(f"{memory.extra_at_peak / 1e6:.0f} MB beyond {job['timings_ms']}")
    assert job["state"] == "succeeded", job
    result = roomy_stack.client.get(f"/v1/jobs/{job['id']}/result").json()
    assert result["segments"]
    assert (result["image"]["width"], result["image"]["height"]) == (SIDE, SIDE)
    assert memory.extra_at_peak < MOST_BYTES
