"""The estimate of the memory that a decode takes holds for real processes, and is not far above."""

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.Image import Resampling

from tests.support.heif import KINDS, Item, build_heif, encode_item, grid_item, transformations
from tests.support.hostile_images import build_interlaced_png
from tests.support.images import EXIF_ORIENTATION, jpeg
from worker.decoding.processes import DecoderProcess, TemplateProcess
from worker.decoding.request import ImageRequest, Plan
from worker.slabs import SlabAllocator, SlabPool

SIZE = (2400, 1600)
MAX_RATIO = 2.0
REQUEST = ImageRequest(10_000_000, ((64, 64), Resampling.BILINEAR))
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")


def build_images() -> dict[str, Image.Image]:
    """Return gradients with noise, by mode."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 5, (SIZE[1], SIZE[0]))
    planes = [127 + 90 * np.sin(x / 97 + y / 211) + noise, 127 + 90 * np.sin(y / 53), 127 + 90 * np.cos((x - y) / 301)]
    rgb = Image.fromarray(np.stack(planes, axis=2).clip(0, 255).astype(np.uint8))
    images = {mode: rgb.convert(mode) for mode in ("RGB", "L", "P", "CMYK", "RGBA", "LA", "F")}
    images["RGBA"].putalpha(images["L"])
    images["I"] = images["L"].convert("I")
    images["I;16"] = Image.fromarray(np.asarray(images["L"]).astype(np.uint16) * 200)
    return images


IMAGES = build_images()
CASES = {
    "jpeg": ("JPEG", "RGB", {}),
    "jpeg-grey": ("JPEG", "L", {}),
    "jpeg-cmyk": ("JPEG", "CMYK", {}),
    "jpeg-progressive-420": ("JPEG", "RGB", {"progressive": True, "subsampling": 2}),
    "jpeg-progressive-444": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    "jpeg-progressive-cmyk": ("JPEG", "CMYK", {"progressive": True}),
    "png": ("PNG", "RGB", {"compress_level": 1}),
    "png-alpha": ("PNG", "RGBA", {"compress_level": 1}),
    "png-grey-alpha": ("PNG", "LA", {"compress_level": 1}),
    "png-palette": ("PNG", "P", {"compress_level": 1}),
    "png-16-bit": ("PNG", "I;16", {"compress_level": 1}),
    "webp": ("WEBP", "RGB", {"method": 0}),
    "webp-alpha": ("WEBP", "RGBA", {"method": 0}),
    "webp-lossless": ("WEBP", "RGB", {"method": 0, "lossless": True, "quality": 0}),
    "webp-lossless-alpha": ("WEBP", "RGBA", {"method": 0, "lossless": True, "quality": 0}),
    "bmp": ("BMP", "RGB", {}),
    "bmp-palette": ("BMP", "P", {}),
    "gif": ("GIF", "P", {}),
    "tiff": ("TIFF", "RGB", {}),
    "tiff-lzw": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "tiff-lzw-alpha": ("TIFF", "RGBA", {"compression": "tiff_lzw"}),
    "tiff-lzw-one-strip": ("TIFF", "RGB", {"compression": "tiff_lzw", "strip_size": 1 << 30}),
    "tiff-jpeg": ("TIFF", "RGB", {"compression": "jpeg"}),
    "tiff-deflate-float": ("TIFF", "F", {"compression": "tiff_adobe_deflate"}),
    "tiff-16-bit": ("TIFF", "I;16", {}),
    "tiff-16-bit-rows": ("TIFF", "I;16", {"strip_size": 1 << 16}),
    "tiff-16-bit-lzw": ("TIFF", "I;16", {"compression": "tiff_lzw"}),
    "tiff-float": ("TIFF", "F", {}),
    "tiff-32-bit": ("TIFF", "I", {}),
}
TINY = jpeg(Image.new("RGB", (64, 64)))
HAVE_NO_METADATA = ("BMP", "GIF")


@pytest.fixture(scope="module")
def template() -> Iterator[tuple[TemplateProcess, SlabAllocator]]:
    pool = SlabPool.create(64 << 20)
    template = TemplateProcess(pool)
    template.start()
    yield template, SlabAllocator(pool)
    template.stop()
    pool.close()


def read_status(pid: int, field: str) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field)]
    return 1024 * int(line.split()[1])


def ask(decoder: DecoderProcess, question: dict[str, Any], data: bytes = b"") -> dict[str, Any]:
    decoder.send({"cpu_seconds": 30, **question}, data)
    assert decoder.wait(30)
    answer = decoder.receive()
    assert answer is not None
    assert "code" not in answer, answer
    return answer


def decode(decoder: DecoderProcess, allocator: SlabAllocator, data: bytes, request: ImageRequest) -> int:
    """Decode an image and return the estimate."""
    plan = Plan.decode(ask(decoder, {"request": request.encode()}, data), request)
    with allocator.lend(3 * 64 * 64, timeout_seconds=0) as slab:
        ask(decoder, {"slabs": [(slab.offset, slab.nbytes)], "max_bytes": 2 * plan.memory_bytes})
    return plan.memory_bytes


def measure(template: TemplateProcess, allocator: SlabAllocator, data: bytes, request: ImageRequest) -> tuple[int, int]:
    """Return the estimate, and the memory that a new process took more at its peak than before, in bytes."""
    decoder = template.fork()
    # Its libraries are shared with other processes, but count as its own when it first uses them.
    decode(decoder, allocator, TINY, request)
    Path(f"/proc/{decoder.pid}/clear_refs").write_text("5")  # resets the peak
    before = read_status(decoder.pid, "VmRSS")
    estimate = decode(decoder, allocator, data, request)
    peak = read_status(decoder.pid, "VmHWM") - before
    decoder.close()
    return estimate, peak


def encode(case: str, orientation: int) -> bytes:
    kind, mode, options = CASES[case]
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    buffer = BytesIO()
    IMAGES[mode].save(buffer, kind, **options, **({"exif": exif} if orientation > 1 else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("case", CASES)
def test_the_estimate_is_above_the_peak_but_not_far(
    template: tuple[TemplateProcess, SlabAllocator], case: str, orientation: int
) -> None:
    if orientation > 1 and CASES[case][0] in HAVE_NO_METADATA:
        pytest.skip("the format has no orientation")

    estimate, peak = measure(*template, encode(case, orientation), REQUEST)

    assert peak <= estimate <= MAX_RATIO * peak, f"peak {peak / 1e6:.1f} MB, estimate {estimate / 1e6:.1f}"


def test_the_estimate_holds_for_the_full_image_behind_a_preview(
    template: tuple[TemplateProcess, SlabAllocator],
) -> None:
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(np.asarray(IMAGES["RGB"].resize((60, 40))), subfiletype=1, subifds=1, photometric="rgb")
        writer.write(np.asarray(IMAGES["RGB"]), photometric="rgb")

    estimate, peak = measure(*template, buffer.getvalue(), REQUEST)

    assert peak <= estimate <= MAX_RATIO * peak, f"peak {peak / 1e6:.1f} MB, estimate {estimate / 1e6:.1f}"


FAST = {"enc_params": {"preset": "ultrafast"}}
HEIF_CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "heic": ("HEIF", "RGB", FAST),
    "heic-444": ("HEIF", "RGB", {**FAST, "subsampling": "4:4:4"}),
    "heic-grey": ("HEIF", "L", FAST),
    "avif": ("AVIF", "RGB", {}),
    "avif-444": ("AVIF", "RGB", {"subsampling": "4:4:4"}),
    "avif-grey": ("AVIF", "L", {}),
    "avif-alpha": ("AVIF", "RGBA", {}),
}


@cache
def encode_heif(case: str) -> Item:
    kind, mode, options = HEIF_CASES[case]
    return encode_item(IMAGES[mode], kind, **options)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("case", HEIF_CASES)
def test_the_estimate_holds_for_heic_and_avif(
    template: tuple[TemplateProcess, SlabAllocator], case: str, orientation: int
) -> None:
    data = build_heif([encode_heif(case).add(*transformations(orientation))])

    estimate, peak = measure(*template, data, REQUEST)

    assert peak <= estimate <= MAX_RATIO * peak, f"peak {peak / 1e6:.1f} MB, estimate {estimate / 1e6:.1f}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_takes_little_more_than_its_pixels(template: tuple[TemplateProcess, SlabAllocator], kind: str) -> None:
    tile = encode_item(IMAGES["RGB"].crop((0, 0, 512, 512)), kind)
    data = build_heif([*[tile] * 20, grid_item(5, 4, SIZE)])

    estimate, peak = measure(*template, data, REQUEST)

    assert peak <= estimate <= MAX_RATIO * peak, f"peak {peak / 1e6:.1f} MB, estimate {estimate / 1e6:.1f}"
    assert (
        estimate
        < 0.6 * measure(*template, build_heif([encode_heif({"HEIF": "heic", "AVIF": "avif"}[kind])]), REQUEST)[0]
    )


def test_the_estimate_holds_for_an_interlaced_png(template: tuple[TemplateProcess, SlabAllocator]) -> None:
    estimate, peak = measure(*template, build_interlaced_png(side=2000), REQUEST)

    assert peak <= estimate <= MAX_RATIO * peak


def test_the_estimate_of_a_scaled_jpeg_is_lower(template: tuple[TemplateProcess, SlabAllocator]) -> None:
    data = encode("jpeg", 6)
    scaled = ImageRequest(10_000_000, ((64, 64), Resampling.BILINEAR), is_scaled=True)

    estimate, peak = measure(*template, data, scaled)

    assert peak <= estimate < 0.5 * measure(*template, data, REQUEST)[0]
