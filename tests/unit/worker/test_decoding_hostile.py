"""Files made to take time or memory keep their decoders within limits, and ordinary images do not notice them."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pytest
from PIL.Image import Resampling

from shared.errors import ClientError, ImageTooCostly
from tests.support import hostile_images as hostile
from tests.support.images import coffee, jpeg
from tests.support.polling import wait_until
from worker.decoding.decoders import DecodeLimits, Decoders
from worker.decoding.request import ImageRequest
from worker.slabs import SlabAllocator, SlabPool

ATTACKERS = 2  # together they take more than the budget
MAX_PIXELS = 128_000_000
REQUEST = ImageRequest(MAX_PIXELS, ((384, 384), Resampling.BILINEAR), 2048)
PHOTO = jpeg(coffee())
MAX_BYTES = 2_000_000_000
MAX_PHOTO_SECONDS = 1.0  # the median, because other tests may use the cores too
pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads the memory from /proc")


@dataclass
class Observer:
    """Decodes an ordinary photo again and again, and records how long it takes and what template and decoders take."""

    decoders: Decoders
    pause: threading.Event = field(default_factory=threading.Event)
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def watch(self, is_done: Callable[[], bool]) -> None:
        while not self.seconds or not is_done():
            start = time.monotonic()
            self.decoders.decode(PHOTO, REQUEST).release()
            self.seconds.append(time.monotonic() - start)
            self.peak_bytes = max(self.peak_bytes, self.used_bytes())
            self.pause.wait(0.05)

    def used_bytes(self) -> int:
        # Not that of this process, which depends on the tests before.
        template = self.decoders.template_pid or 0
        return sum(map(proportional_bytes, [template, *find_children(template)]))


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    pool = SlabPool.create(256 << 20)
    allocator = SlabAllocator(pool)
    decoders = Decoders(allocator, DecodeLimits(max_seconds=2, max_seconds_per_megapixel=0.1))
    decoders.start()
    decoders.decode(PHOTO, REQUEST).release()
    yield decoders
    decoders.stop()
    assert allocator.allocated_bytes == 0
    pool.close()


def find_children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def proportional_bytes(pid: int) -> int:
    """Return the proportional set size; 0 if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def attack(decoders: Decoders, data: bytes, attackers: int = ATTACKERS) -> tuple[Observer, list[ClientError | None]]:
    """Decode a file on many threads while ordinary photos are decoded; return what was seen, and the errors."""

    def run(_: int) -> ClientError | None:
        try:
            decoders.decode(data, REQUEST).release()
        except ClientError as error:
            return error
        return None

    observer = Observer(decoders)
    with ThreadPoolExecutor(attackers) as threads:
        running = [threads.submit(run, number) for number in range(attackers)]
        observer.watch(lambda: all(future.done() for future in running))
        return observer, [future.result() for future in running]


def assert_unnoticed(observer: Observer) -> None:
    assert observer.peak_bytes < MAX_BYTES
    assert median(observer.seconds) < MAX_PHOTO_SECONDS


def test_a_jpeg_of_hundreds_of_scans_is_refused_at_once(decoders: Decoders) -> None:
    observer, errors = attack(decoders, hostile.build_slow_jpeg(side=8000, scans=400))

    assert all("more than 20 scans" in str(error) for error in errors)
    assert_unnoticed(observer)


def test_a_jpeg_of_nearly_too_many_scans_ends_at_its_limit(decoders: Decoders) -> None:
    observer, errors = attack(decoders, hostile.build_slow_jpeg(side=8000, scans=20))

    assert all(error is None or isinstance(error, ImageTooCostly) for error in errors)
    assert_unnoticed(observer)


def test_a_tiny_webp_of_64_megapixels_takes_one_budget(decoders: Decoders) -> None:
    data = hostile.build_large_webp(side=8000)
    assert len(data) < 200

    observer, errors = attack(decoders, data)

    assert errors == [None] * ATTACKERS
    assert_unnoticed(observer)
    wait_until(lambda: observer.used_bytes() < observer.peak_bytes / 3, "memory to go back")


SIBLINGS: dict[str, Callable[[], bytes]] = {
    "an iCCP chunk of 100 MB": lambda: hostile.build_inflating_png(b"iCCP", megabytes=100),
    "a zTXt chunk of 100 MB": lambda: hostile.build_inflating_png(b"zTXt", megabytes=100),
    "a quarter of a million chunks": lambda: hostile.build_png_of_zeros(
        side=8, chunk=(b"tEXt", b"a\0b"), repeated=250_000
    ),
    "an interlaced PNG of 25 megapixels": lambda: hostile.build_interlaced_png(side=5000),
    "a 1-bit PNG of 64 megapixels": lambda: hostile.build_png_of_zeros(side=8000),
    "metadata of 10 MB": lambda: hostile.build_jpeg_of_segments(segments=160, nbytes=65_000),
    "half a million segments": lambda: hostile.build_jpeg_of_segments(segments=500_000, nbytes=1),
    "millions of samples in a TIFF": lambda: hostile.build_tiff_of_samples(count=8_000_000),
    "a strip for each of 50,000 rows": lambda: hostile.build_tiff_of_strips(width=1200, height=50_000),
    "a tile that is larger than its image": lambda: hostile.build_tiff_of_a_huge_tile(side=15_000),
    "a GIF canvas of 64 megapixels": lambda: hostile.build_gif_of_a_huge_canvas(side=8000),
    "an animated WebP": lambda: hostile.build_animation("WEBP", side=1000, frames=30),
    "an animated PNG": lambda: hostile.build_animation("PNG", side=1000, frames=30),
}


@pytest.mark.parametrize("name", SIBLINGS)
def test_other_costly_files_are_not_noticed_by_photos(decoders: Decoders, name: str) -> None:
    observer, _ = attack(decoders, SIBLINGS[name](), attackers=1)

    assert_unnoticed(observer)
