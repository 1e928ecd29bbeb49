"""Images that a child process decodes equal those of the same process, and a child that dies costs only its image."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.Image import Resampling
from PIL.JpegImagePlugin import JpegImageFile

from shared.errors import (
    Canceled,
    ClientError,
    DecoderLost,
    DecodersBusy,
    ImageTooCostly,
    ImageTooLarge,
    NotAnImage,
    TruncatedImage,
)
from shared.images.opening import upright_size
from shared.jobs.inspection import inspect_image
from tests.support.credentials import CREDENTIALS
from tests.support.hostile_images import build_slow_jpeg
from tests.support.images import EXIF_ORIENTATION, astronaut, coffee, png_chunk, sample_images
from tests.support.polling import wait_until
from tests.support.tiffs import build_tiff
from worker.decoding.admission import MemoryBudget
from worker.decoding.decoded_image import DecodedImage
from worker.decoding.decoders import DecodeLimits, Decoders
from worker.decoding.estimate import estimate_bytes
from worker.decoding.pixels import decode
from worker.decoding.request import ImageRequest, Plan
from worker.formats.drawing import MAX_OVERLAY_SIDE
from worker.slabs import SlabAllocator, SlabPool

MAX_PIXELS = 150_000_000
REQUEST = ImageRequest(MAX_PIXELS, ((384, 384), Resampling.BILINEAR), MAX_OVERLAY_SIDE)
WHOLE = ImageRequest(MAX_PIXELS, None)
LIMITS = DecodeLimits(max_bytes=1_600_000_000, max_seconds=5.0, wait_seconds=60.0)


@pytest.fixture(scope="module")
def allocator() -> Iterator[SlabAllocator]:
    pool = SlabPool.create(512 << 20)
    yield SlabAllocator(pool)
    pool.close()


@pytest.fixture(scope="module")
def shared_decoders(allocator: SlabAllocator) -> Iterator[Decoders]:
    decoders = Decoders(allocator, LIMITS)
    decoders.start()
    yield decoders
    decoders.stop()


@pytest.fixture
def decoders(shared_decoders: Decoders, allocator: SlabAllocator) -> Iterator[Decoders]:
    yield shared_decoders
    assert allocator.allocated_bytes == 0
    assert shared_decoders.used_bytes == 0


@pytest.fixture
def fresh_decoders(allocator: SlabAllocator) -> Iterator[Decoders]:
    """Decoders of which none has decoded an image yet."""
    decoders = Decoders(allocator, LIMITS)
    decoders.start()
    yield decoders
    decoders.stop()
    assert allocator.allocated_bytes == 0


def encode(image: Image.Image, kind: str, *, orientation: int = 1, **options: object) -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    buffer = BytesIO()
    image.save(buffer, kind, **({"exif": exif} if orientation > 1 else {}), **options)
    return buffer.getvalue()


def files() -> dict[str, bytes]:
    """Return the kinds of files whose decoding differs, by name."""
    rgb = astronaut().crop((3, 5, 340, 466))
    images = {mode: rgb.convert(mode) for mode in ("RGB", "L", "P", "1", "CMYK", "RGBA", "LA", "F")}
    images["RGBA"].putalpha(images["L"])
    images["I;16"] = Image.fromarray(np.asarray(images["L"]).astype(np.uint16) * 7)
    kinds = {
        "JPEG": ("RGB", "L", "CMYK"),
        "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
        "WEBP": ("RGB", "RGBA"),
        "BMP": ("RGB", "L", "P"),
        "TIFF": ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "F"),
        "GIF": ("P", "L"),
    }
    found = {f"{kind}-{mode}": encode(images[mode], kind) for kind, modes in kinds.items() for mode in modes}
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        for orientation in range(2, 9):
            found[f"{kind}-orientation-{orientation}"] = encode(images["RGB"], kind, orientation=orientation)
    found["JPEG-progressive-turned"] = encode(images["RGB"], "JPEG", orientation=6, progressive=True)
    found["WEBP-lossless-turned"] = encode(images["RGBA"], "WEBP", orientation=6, lossless=True)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        found[f"TIFF-{compression}"] = encode(images["RGB"], "TIFF", compression=compression)
    found["PNG-transparency"] = encode(images["P"], "PNG", transparency=bytes(range(0, 256, 2)))
    for kind in ("GIF", "PNG", "WEBP"):
        found[f"{kind}-animated"] = encode(rgb, kind, save_all=True, append_images=[rgb.transpose(0)])
    return found


FILES = files()


def expect(data: bytes, request: ImageRequest) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what the outputs of a request must be, computed in this process."""
    image = decode(data, max_pixels=request.max_pixels)
    model_input = image if request.resize is None else image.resize(*request.resize)
    if request.image_side is None:
        return np.asarray(model_input), None
    scale = min(1.0, request.image_side / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return np.asarray(model_input), np.asarray(image.resize(size, Resampling.BOX) if scale < 1 else image)


def assert_equals(image: DecodedImage, data: bytes, request: ImageRequest) -> None:
    model_input, overlay = expect(data, request)
    assert np.array_equal(image.model_input.pixels, model_input)
    assert (overlay is None) == (image.image is None)
    if image.image is not None:
        assert np.array_equal(image.image.pixels, overlay)


def find_children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("name", FILES)
def test_a_file_decodes_like_in_one_process(decoders: Decoders, name: str) -> None:
    request = ImageRequest(MAX_PIXELS, ((97, 61), Resampling.BICUBIC), 200)

    for wanted in (request, WHOLE):
        with decoders.decode(FILES[name], wanted) as image:
            assert_equals(image, FILES[name], wanted)
            assert (image.height, image.width) == expect(FILES[name], WHOLE)[0].shape[:2]


@pytest.mark.parametrize("name", sample_images())
def test_an_image_is_resized_like_in_one_process(decoders: Decoders, name: str) -> None:
    data = encode(sample_images()[name], "PNG")

    with decoders.decode(data, REQUEST) as image:
        assert_equals(image, data, REQUEST)


def test_a_large_whole_image_is_written_in_bands(decoders: Decoders) -> None:
    data = encode(coffee().resize((5001, 3003)), "JPEG")

    with decoders.decode(data, ImageRequest(MAX_PIXELS, None, 1000)) as image:
        assert_equals(image, data, ImageRequest(MAX_PIXELS, None, 1000))


def test_a_scaled_jpeg_reports_its_whole_size_and_is_nearly_equal(decoders: Decoders) -> None:
    data = encode(coffee().resize((4001, 3001), Resampling.LANCZOS), "JPEG", orientation=6)
    request = ImageRequest(MAX_PIXELS, ((384, 384), Resampling.BILINEAR), 900, is_scaled=True)

    with decoders.decode(data, request) as image:
        assert (image.width, image.height) == (3001, 4001)
        for raster, expected in zip((image.model_input, image.image), expect(data, request), strict=True):
            assert raster.pixels.shape == expected.shape
            assert np.abs(raster.pixels.astype(int) - expected).mean() < 1.5


def test_many_threads_decode_at_a_time(decoders: Decoders) -> None:
    names = list(FILES) * 3

    def check(name: str) -> None:
        with decoders.decode(FILES[name], REQUEST) as image:
            assert_equals(image, FILES[name], REQUEST)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(check, names))


def set_sampling(data: bytes, factors: int) -> bytes:
    """Return a progressive JPEG with other sampling factors of its first channel."""
    frame = data.index(b"\xff\xc2")
    return data[: frame + 11] + bytes([factors]) + data[frame + 12 :]


def test_a_tiff_whose_rows_are_counted_in_bytes_is_decoded(decoders: Decoders) -> None:
    data = build_tiff(bytes(range(120)), size=(6, 10), bits=[16], photometric=1, tag_278=("B", [10]))

    with decoders.decode(data, REQUEST) as image:
        assert_equals(image, data, REQUEST)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (set_sampling(encode(Image.new("L", (64, 64)), "JPEG", progressive=True), 0), NotAnImage),
        (b"", NotAnImage),
        (b"hello", NotAnImage),
        (b"\xff\xd8\xff", TruncatedImage),
        (FILES["JPEG-RGB"][:5000], TruncatedImage),
        (FILES["PNG-RGB"][:5000], ClientError),
    ],
)
def test_a_damaged_file_is_an_error_of_its_own(decoders: Decoders, data: bytes, error: type[ClientError]) -> None:
    with pytest.raises(error):
        decoders.decode(data, REQUEST)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(name=st.sampled_from(sorted(FILES)), seed=st.integers(0, 2**32))
def test_a_damaged_file_decodes_or_fails_like_in_one_process(decoders: Decoders, name: str, seed: int) -> None:
    data = damage(FILES[name], random.Random(seed))
    try:
        expected = np.asarray(decode(data, max_pixels=1_000_000))
    except ClientError as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            decoders.decode(data, ImageRequest(1_000_000, None))
        return

    with decoders.decode(data, ImageRequest(1_000_000, None)) as image:
        assert np.array_equal(image.model_input.pixels, expected)


def damage(data: bytes, rng: random.Random) -> bytes:
    """Return a file with some bytes changed, most of them in its header, and perhaps without its end."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        damaged[rng.randrange(len(damaged) if rng.random() < 0.5 else min(len(damaged), 120))] = rng.randrange(256)
    return bytes(damaged[: rng.randint(len(damaged) // 2, len(damaged))] if rng.random() < 0.5 else damaged)


def test_too_many_pixels_are_refused(decoders: Decoders) -> None:
    with pytest.raises(ImageTooLarge, match=r"155357 pixels \(337 x 461\), at most 1000"):
        decoders.decode(FILES["JPEG-RGB"], ImageRequest(1000, None))


def test_more_memory_than_one_image_may_take_is_refused_with_both_numbers(allocator: SlabAllocator) -> None:
    decoders = Decoders(allocator, DecodeLimits(max_bytes=64_000_000))
    decoders.start()
    try:
        with pytest.raises(ImageTooLarge, match=r"takes \d+ megabytes of memory, at most 56"):
            decoders.decode(encode(Image.new("RGB", (4000, 3600)), "JPEG"), REQUEST)
        with decoders.decode(FILES["JPEG-RGB"], REQUEST) as image:
            assert_equals(image, FILES["JPEG-RGB"], REQUEST)
    finally:
        decoders.stop()


def test_more_cpu_time_than_one_image_may_take_is_refused(allocator: SlabAllocator) -> None:
    decoders = Decoders(allocator, DecodeLimits(max_seconds=0.5, max_seconds_per_megapixel=0))
    data = build_slow_jpeg(side=8000, scans=20)
    decoders.start()
    slow: list[str] = []
    try:
        with pytest.raises(ImageTooCostly, match=r"took more than 0\.5 seconds of CPU time"):
            decoders.decode(data, REQUEST, on_slow=lambda: slow.append("slow"))
    finally:
        decoders.stop()
    assert slow == ["slow"]
    assert allocator.allocated_bytes == 0


def cpu_seconds(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


def find_busy(template: int) -> list[int]:
    """Return the decoders that have used some CPU time, which an idle new one has not."""
    return [pid for pid in find_children(template) if cpu_seconds(pid) > 0.15]


def test_a_decoder_that_is_killed_is_replaced_and_its_image_decoded(fresh_decoders: Decoders) -> None:
    template = fresh_decoders.template_pid or 0
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(fresh_decoders.decode, build_slow_jpeg(side=8000, scans=20), REQUEST)
        wait_until(lambda: find_busy(template), seconds=20)
        (killed,) = find_children(template)
        os.kill(killed, signal.SIGKILL)

        with running.result(60) as image:
            assert (image.width, image.height) == (8000, 8000)


def test_an_image_whose_decoder_is_always_killed_is_lost(decoders: Decoders) -> None:
    data = build_slow_jpeg(side=8000, scans=20)
    is_done = threading.Event()

    def kill_all() -> None:
        while not is_done.wait(0.02):
            for pid in find_children(decoders.template_pid or 0):
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(DecoderLost):
            decoders.decode(data, REQUEST)
    finally:
        is_done.set()
        killer.join()


def is_running(pid: int) -> bool:
    """Return whether a process exists and is no zombie, which its new parent has not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_template_that_is_killed_is_replaced_and_its_images_decoded(fresh_decoders: Decoders) -> None:
    data = build_slow_jpeg(side=4500, scans=20)
    template = fresh_decoders.template_pid or 0
    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(fresh_decoders.decode, data, REQUEST) for _ in range(3)]
        wait_until(lambda: len(find_busy(template)) == 3, seconds=20)
        orphans = find_children(template)
        os.kill(template, signal.SIGKILL)

        for image in running:
            image.result(60).release()

    assert fresh_decoders.template_pid != template
    wait_until(lambda: not any(is_running(pid) for pid in orphans))


def test_no_process_is_left_after_stop(allocator: SlabAllocator) -> None:
    decoders = Decoders(allocator, LIMITS)
    decoders.start()
    decoders.decode(FILES["JPEG-RGB"], REQUEST).release()
    template = decoders.template_pid
    children = find_children(template or 0)
    assert children

    decoders.stop()

    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in [template, *children]))
    with pytest.raises(DecodersBusy):
        decoders.decode(FILES["JPEG-RGB"], REQUEST)


HOST = """
import sys
from pathlib import Path
from PIL.Image import Resampling
from worker.decoding.decoders import DecodeLimits, Decoders
from worker.decoding.request import ImageRequest, Plan
from worker.slabs import SlabAllocator, SlabPool

decoders = Decoders(SlabAllocator(SlabPool.create(64 << 20)), DecodeLimits())
decoders.start()
request = ImageRequest(150_000_000, ((384, 384), Resampling.BILINEAR))
data = Path(sys.argv[1]).read_bytes()
print(decoders.template_pid, flush=True)
decoders.decode(data, request, on_slow=lambda: print("slow", flush=True))
"""


def test_no_process_outlives_a_host_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "slow.jpg"
    path.write_bytes(build_slow_jpeg(side=8000, scans=20))
    with subprocess.Popen([sys.executable, "-c", HOST, str(path)], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        template = int(host.stdout.readline())
        assert host.stdout.readline() == "slow\n"
        processes = [template, *find_children(template)]
        assert len(processes) == 2

        host.kill()

    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


def test_a_large_image_is_reported_as_slow_and_its_decoder_is_not_used_again(decoders: Decoders) -> None:
    data = encode(Image.new("RGB", (9000, 6000)), "JPEG")
    slow: list[int] = []

    decoders.decode(data, REQUEST, on_slow=lambda: slow.append(1)).release()

    assert slow == [1]
    template = decoders.template_pid or 0
    wait_until(lambda: all(resident_bytes(pid) < 64_000_000 for pid in find_children(template)))


def test_a_decode_is_ended_while_it_runs(fresh_decoders: Decoders) -> None:
    is_canceled = threading.Event()

    def check() -> None:
        if is_canceled.is_set():
            raise Canceled("The job was canceled")

    # It takes seconds, and is reported as slow first.
    with pytest.raises(Canceled):
        fresh_decoders.decode(build_slow_jpeg(side=8000, scans=20), REQUEST, on_slow=is_canceled.set, check=check)

    wait_until(lambda: not find_children(fresh_decoders.template_pid or 0))


@pytest.mark.parametrize("side", [5000, 8000])  # small, and large by its estimate
def test_a_decode_is_ended_by_an_exception_of_its_observer(fresh_decoders: Decoders, side: int) -> None:
    def cancel() -> None:
        raise Canceled("The job was canceled")

    with pytest.raises(Canceled):
        fresh_decoders.decode(build_slow_jpeg(side=side, scans=20), REQUEST, on_slow=cancel)

    wait_until(lambda: not find_children(fresh_decoders.template_pid or 0))


def resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


@pytest.mark.parametrize("options", [{}, {"orientation": 6}, {"progressive": True, "subsampling": 0}])
def test_the_default_budget_has_room_for_a_jpeg_of_128_megapixels(options: dict[str, object]) -> None:
    with JpegImageFile(BytesIO(encode(Image.new("RGB", (64, 64), (7, 80, 200)), "JPEG", **options))) as file:
        file._size = (13_064, 9_797)
        outputs = ((384, 384), (2048, 1536), upright_size(file))

        needed = estimate_bytes(file, b"", size=file.size, outputs=outputs)

    assert needed + 40_000_000 < MemoryBudget(DecodeLimits().max_bytes).max_image_bytes


@pytest.mark.parametrize(
    "plan",
    [
        Plan((100, 50), ((384, 384),), 1),  # an output is missing
        Plan((100, 50), ((384, 384), (10_000, 10_000)), 1),
        Plan((0, 50), ((384, 384), (1, 50)), 1),
        Plan((MAX_PIXELS, 2), ((384, 384), (2048, 1)), 1),
    ],
)
def test_a_decoder_gets_no_memory_for_sizes_that_were_not_asked_for(plan: Plan) -> None:
    with pytest.raises(NotAnImage):
        Plan.decode(plan.encode(), REQUEST)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_processes_that_decode_have_no_credentials(
    allocator: SlabAllocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MASKMILL_REDIS_PASSWORD", "MASKMILL_STORAGE_SECRET_KEY", "HF_TOKEN", *CREDENTIALS):
        monkeypatch.setenv(name, "hidden")
    decoders = Decoders(allocator, LIMITS)
    decoders.start()
    decoders.decode(FILES["JPEG-RGB"], REQUEST).release()

    template = decoders.template_pid or 0
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in (template, *find_children(template))]
    decoders.stop()

    assert all(b"PATH=" in environment for environment in environments)
    assert not any(b"hidden" in environment for environment in environments)


def exif_behind_pixels() -> bytes:
    """Return a PNG whose orientation stands behind its pixels, where Pillow finds it when it has decoded them."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    content = exif.tobytes()[6:]
    plain = encode(astronaut().crop((0, 0, 40, 30)), "PNG")
    return plain[:-12] + png_chunk(b"eXIf", content) + plain[-12:]


@pytest.mark.parametrize("name", [*FILES, "PNG-late-orientation"])
def test_the_size_is_that_of_the_gateway(decoders: Decoders, name: str) -> None:
    data = FILES.get(name) or exif_behind_pixels()
    facts = inspect_image(data, max_pixels=REQUEST.max_pixels)

    with decoders.decode(data, REQUEST) as image:
        assert (image.width, image.height) == (facts.width, facts.height)
        assert_equals(image, data, REQUEST)


@pytest.mark.parametrize("size", [(65_500, 1), (1, 65_500)])
def test_a_side_has_the_limit_of_the_request(decoders: Decoders, size: tuple[int, int]) -> None:
    data = encode(Image.new("L", size), "PNG")

    decoders.decode(data, REQUEST).release()
    with pytest.raises(ImageTooLarge, match="at most 65499 are accepted for each side"):
        decoders.decode(data, replace(REQUEST, max_side=65_499))
