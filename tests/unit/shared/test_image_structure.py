"""Files of real encoders are accepted in all their settings; files with too many blocks are refused in milliseconds."""

import contextlib
import itertools
import struct
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from shared.errors import ClientError, ImageTooCostly, ImageTooLarge, NotAnImage, TruncatedImage
from shared.images.formats import MAX_SIDE
from shared.images.jpeg import read_jpeg
from shared.images.opening import open_image
from shared.images.webp import read_webp
from shared.jobs.inspection import inspect_image
from shared.settings import Settings
from tests.support import hostile_images as hostile
from tests.support.cpu_time import measure_cpu_seconds
from tests.support.images import EXIF_ORIENTATION, coffee, jpeg
from worker.decoding.pixels import decode

MAX_PIXELS = 64_000_000
MAX_MS = 150.0  # of CPU time for 4 MB; Pillow alone takes seconds and gigabytes for some of these


def encode(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = BytesIO()
    coffee().resize((301, 203)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def large_exif() -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    exif[0x927C] = bytes(60_000)
    exif.get_ifd(0x8769)[0x9286] = b"a comment"
    return exif.tobytes()


def jpeg_settings() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for quality, progressive, sampling, restart in itertools.product((5, 100), (False, True), (0, 2), (0, 1)):
        options = {"quality": quality, "progressive": progressive, "subsampling": sampling, "optimize": True}
        yield "JPEG", "RGB", {**options, "restart_marker_blocks": restart}
    for mode in ("L", "CMYK"):
        yield "JPEG", mode, {"progressive": True}
    yield "JPEG", "RGB", {"comment": bytes(60_000)}
    for kind in ("JPEG", "PNG", "WEBP"):
        yield kind, "RGB", {"icc_profile": bytes(300_000), "exif": large_exif()}


def tiff_settings() -> Iterator[tuple[str, str, dict[str, Any]]]:
    options: dict[str, Any]
    for compression in (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_adobe_deflate"):
        for options in ({}, {"strip_size": 5000}, {"big_tiff": True}):
            yield "TIFF", "RGB", {"compression": compression, **options}
    for mode in ("1", "L", "P", "RGBA", "CMYK", "I;16", "F"):
        yield "TIFF", mode, {}
    yield "TIFF", "1", {"compression": "group4"}
    yield "TIFF", "RGB", {"strip_size": 1}


def other_settings() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for mode, interlace in itertools.product(("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), (0, 1)):
        yield "PNG", mode, {"interlace": interlace}
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield "BMP", mode, {}
        yield "GIF", mode, {"comment": b"x" * 5000}
    for method, lossless in itertools.product((0, 6), (False, True)):
        yield "WEBP", "RGBA", {"method": method, "lossless": lossless}
    for kind, number in itertools.product(("JPEG", "PNG", "WEBP", "TIFF"), range(1, 9)):
        yield kind, "RGB", {"exif": turn(number)}


def turn(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = number
    return exif


def pillow_files() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield name and builder of files in the settings of Pillow's encoders."""
    for number, (kind, mode, options) in enumerate([*jpeg_settings(), *tiff_settings(), *other_settings()]):
        yield f"{number} {kind} {mode} {', '.join(options)}", partial(encode, kind, mode, **options)
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "MPO"):
        yield f"{kind} of many frames", partial(many_frames, kind)


def many_frames(kind: str) -> bytes:
    frames = [Image.new("RGB", (60, 40), (number, 90, 3)) for number in range(60)]
    buffer = BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


OPENCV_SETTINGS: dict[str, tuple[str, list[int]]] = {
    "jpeg": (".jpg", []),
    "progressive jpeg": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_OPTIMIZE, 1]),
    "jpeg with restarts": (".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
    "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 9]),
    "png without matches": (".png", [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]),
    "bmp": (".bmp", []),
    "webp": (".webp", []),
    "lossy webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 5]),
    "tiff": (".tiff", []),
    "raw tiff": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 1]),
    "tiff of rows": (".tiff", [cv2.IMWRITE_TIFF_ROWSPERSTRIP, 1]),
}


def opencv_files() -> Iterator[tuple[str, Callable[[], bytes]]]:
    for name, (suffix, settings) in OPENCV_SETTINGS.items():
        yield (
            f"opencv {name}",
            lambda s=suffix, o=settings: bytes(cv2.imencode(s, cv2.resize(np.asarray(coffee()), (301, 203)), o)[1]),
        )


def sample_files() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the image files in the wheels of scikit-image and matplotlib."""
    folders = (Path(skimage.data.__file__).parent, Path(str(resources.files("matplotlib"))) / "mpl-data/sample_data")
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".gif", ".tif", ".tiff", ".bmp", ".webp"}:
                with contextlib.suppress(OSError):  # one has a kind of pixels that Pillow does not know
                    Image.open(path).close()
                    yield path.name, path.read_bytes


HONEST = dict([*pillow_files(), *opencv_files(), *sample_files()])


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_file_of_a_real_encoder_is_accepted_with_the_size_of_its_pixels(name: str) -> None:
    data = HONEST[name]()

    facts = inspect_image(data, max_pixels=MAX_PIXELS)

    assert (facts.width, facts.height) == decode(data, max_pixels=MAX_PIXELS).size


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("TIFF", {"strip_size": 1}),
        ("TIFF", {"strip_size": 1, "compression": "tiff_lzw"}),
        ("PNG", {}),
        ("JPEG", {"progressive": True, "restart_marker_blocks": 1}),
        ("GIF", {}),
    ],
)
def test_a_large_file_of_many_blocks_is_accepted(kind: str, options: dict[str, object]) -> None:
    rng = np.random.default_rng(1)
    size = (4000, 6000) if kind != "TIFF" else (200, 40_000)
    image = Image.fromarray(rng.integers(0, 255, (size[1], size[0]), np.uint8))
    buffer = BytesIO()
    image.save(buffer, kind, **options)

    assert inspect_image(buffer.getvalue(), max_pixels=MAX_PIXELS).height == size[1]


def test_what_a_phone_appends_to_a_jpeg_is_not_counted() -> None:
    movie = np.random.default_rng(2).bytes(16_000_000)
    data = jpeg(coffee())

    assert inspect_image(data + movie + b"\xff\xd9", max_pixels=MAX_PIXELS).width == 600


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_the_limit_of_a_side_is_exact(kind: str) -> None:
    buffer = BytesIO()
    Image.new("L" if kind != "WEBP" else "RGB", (2, 901)).save(buffer, kind)
    data = buffer.getvalue()

    assert inspect_image(data, max_pixels=MAX_PIXELS, max_side=901).height == 901
    with pytest.raises(ImageTooLarge, match="2 x 901 pixels large, at most 900 are accepted for each side"):
        inspect_image(data, max_pixels=MAX_PIXELS, max_side=900)


@pytest.mark.parametrize("text", [b"", b"a", b"a\0", b"\0", b"\0\1"])
def test_a_text_without_a_flag_is_accepted(text: bytes) -> None:
    assert inspect_image(png_chunks(b"iTXt", text, 1), max_pixels=MAX_PIXELS).width == 8


def test_the_limit_of_junk_between_segments_is_exact() -> None:
    data = jpeg(coffee())
    most = b"a" * 32_768 + b"\xff\xfe\x00\x02" + b"a" * 32_768

    assert read_jpeg(data[:2] + most + data[2:]).scans == 1
    with pytest.raises(NotAnImage, match="malformed"):
        read_jpeg(data[:2] + b"a" + most + data[2:])


@pytest.mark.parametrize(
    ("name", "options"), [(b"VP8 ", {}), (b"VP8L", {"lossless": True}), (b"VP8X", {"exif": turn(6)})]
)
def test_the_size_of_a_webp_is_read_before_its_parser_runs(name: bytes, options: dict[str, Any]) -> None:
    data = encode("WEBP", **options)

    assert data[12:16] == name
    assert read_webp(data).size == (301, 203)


def test_the_default_of_a_side_is_that_of_the_settings() -> None:
    assert Settings.model_fields["max_image_side"].default == MAX_SIDE


MEGABYTES = 4 << 20
COSTLY: dict[str, tuple[type[ClientError], Callable[[], bytes]]] = {
    "9 megapixels of 100 scans": (ImageTooCostly, lambda: hostile.build_slow_jpeg(side=3000, scans=99)),
    "hundreds of scans": (ImageTooCostly, lambda: hostile.build_slow_jpeg(side=300, scans=700)),
    "64 megapixels of 21 scans": (ImageTooCostly, lambda: hostile.build_slow_jpeg(side=8000, scans=22)),
    "a million segments": (ImageTooCostly, lambda: hostile.build_jpeg_of_segments(segments=1_000_000, nbytes=1)),
    "a million segments between scans": (ImageTooCostly, lambda: segments_between_scans(1_000_000)),
    "10 million markers without length": (ImageTooCostly, lambda: scans_then(b"\xff\x01" * 10_000_000)),
    "coded data of markers": (ImageTooCostly, lambda: scans_then(b"\xff\x00" * MEGABYTES)),
    "coded data of fill bytes": (ImageTooCostly, lambda: scans_then(b"\xff" * MEGABYTES)),
    "metadata of 10 MB": (ImageTooCostly, lambda: hostile.build_jpeg_of_segments(segments=160, nbytes=65_000)),
    "3,980 segments of Exif": (ImageTooCostly, lambda: hostile.build_jpeg_of_segments(segments=3980, nbytes=1000)),
    "a kilobyte of junk before each segment": (NotAnImage, lambda: junk_between_segments()),
    "quantization tables": (ImageTooCostly, lambda: jpeg_segments(0xDB, (b"\0" + bytes(64)) * 1000, 100)),
    "60,000 tags of Exif": (ImageTooCostly, lambda: hostile.build_png_of_exif(tags=60_000)),
    "an orientation of a million values": (ImageTooCostly, lambda: hostile.build_png_of_exif(tags=1, values=1_000_000)),
    "60,000 tags of Exif behind the pixels": (ImageTooCostly, lambda: hostile.build_png_of_late_exif(tags=60_000)),
    "Exif as a text": (ImageTooCostly, lambda: exif_as_text()),
    "a quarter of a million chunks": (ImageTooCostly, lambda: png_chunks(b"tEXt", b"a\0b", 250_000)),
    "a million chunks of pixels": (ImageTooCostly, lambda: png_chunks(b"IDAT", b"", 1_000_000)),
    "a million frames of an animated PNG": (ImageTooCostly, lambda: png_chunks(b"fcTL", bytes(26), 300_000)),
    "a million strips": (ImageTooCostly, lambda: hostile.build_tiff_of_strips(width=8, height=1_000_000)),
    "a million strips that are raw": (ImageTooCostly, lambda: raw_strips(1_000_000)),
    "millions of samples": (ImageTooCostly, lambda: hostile.build_tiff_of_samples(count=4_000_000)),
    "a million resolutions": (ImageTooCostly, lambda: tiff_values(282, 5, 1_000_000)),
    "a million colours": (ImageTooCostly, lambda: tiff_values(320, 3, 1_000_000)),
    "fractions of XMP": (ImageTooCostly, lambda: tiff_values(700, 5, 500_000)),
    "numbers of a profile": (ImageTooCostly, lambda: tiff_values(34675, 3, 2_000_000)),
    "fractions of strips": (NotAnImage, lambda: tiff_values(273, 5, 60_000)),
    "60,000 tags": (ImageTooCostly, lambda: tiff_tags(60_000)),
    "a tile that is larger than its image": (ImageTooCostly, lambda: hostile.build_tiff_of_a_huge_tile(side=15_000)),
    "strips that are one progressive JPEG": (ImageTooCostly, lambda: jpeg_strips()),
    "sub-blocks of a GIF": (ImageTooCostly, lambda: gif(b"," + bytes(9) + b"\x08" + b"\x01a" * MEGABYTES)),
    "a comment of a GIF": (ImageTooCostly, lambda: gif(b"!\xfe" + b"\x01a" * MEGABYTES)),
    "extensions of a GIF": (ImageTooCostly, lambda: gif(b"!\xfe\x00" * MEGABYTES)),
    "run-length data": (
        ImageTooCostly,
        lambda: hostile.build_run_length_bmp(b"\x00\x00" * MEGABYTES, size=(60_000, 1000)),
    ),
    "chunks of a WebP": (ImageTooCostly, lambda: webp_chunks(500_000)),
    "frames of a WebP": (ImageTooCostly, lambda: webp_chunks(200_000, b"ANMF" + struct.pack("<I", 16) + bytes(16))),
    "a WebP canvas of 268 megapixels": (ImageTooLarge, lambda: hostile.build_webp_of_a_huge_canvas(side=16_384)),
    "a PNG of 4 gigapixels": (ImageTooLarge, lambda: hostile.build_png_header(width=65_000, height=65_000)),
    "a PNG of a million columns": (ImageTooLarge, lambda: hostile.build_png_header(width=1_000_001, height=1)),
    "a TIFF of a million rows": (ImageTooLarge, lambda: tiff_header(1, 1_000_001)),
    "a BMP of a million columns": (ImageTooLarge, lambda: hostile.build_run_length_bmp(b"", size=(1_000_001, 1))),
    "a GIF of 65,535 columns": (ImageTooLarge, lambda: hostile.build_gif_of_a_huge_canvas(side=65_535)),
    "strips beyond the end": (TruncatedImage, lambda: hostile.build_tiff_of_strips(width=64, height=1000)[:-9000]),
}


@pytest.mark.parametrize("name", COSTLY)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_costly_file_is_refused_in_milliseconds(name: str) -> None:
    kind, build = COSTLY[name]
    data = build()

    with pytest.raises(kind):
        inspect_image(data, max_pixels=MAX_PIXELS)

    assert 1000 * measure_cpu_seconds(lambda: open_if_allowed(data)) < MAX_MS * max(1, len(data) / MEGABYTES)


def open_if_allowed(data: bytes) -> None:
    with contextlib.suppress(ClientError):
        open_image(data, max_pixels=MAX_PIXELS)


def jpeg_segments(marker: int, content: bytes, count: int) -> bytes:
    data = jpeg(coffee())
    return data[:2] + (bytes((0xFF, marker)) + struct.pack(">H", 2 + len(content)) + content) * count + data[2:]


def segments_between_scans(count: int) -> bytes:
    data = hostile.build_slow_jpeg(side=64, scans=30)
    place = data.rindex(b"\xff\xda")
    return data[:place] + b"\xff\xfe\x00\x02" * count + data[place:]


def scans_then(coded: bytes) -> bytes:
    """Return a JPEG whose first scan has `coded` as its data, before too many others."""
    data = hostile.build_slow_jpeg(side=64, scans=700)
    place = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    return data[:place] + coded + data[place:]


def junk_between_segments() -> bytes:
    data = jpeg(coffee())
    return data[:2] + (bytes(1000) + b"\xff\xfe\x00\x02") * 3900 + data[2:]


def exif_as_text() -> bytes:
    text = b"Raw profile type exif\x00\nexif\n   400000\n" + b"00" * 400_000
    return hostile.build_png_of_zeros(side=8, chunk=(b"tEXt", text))


def png_chunks(name: bytes, content: bytes, count: int) -> bytes:
    return hostile.build_png_of_zeros(side=8, chunk=(name, content), repeated=count)


def raw_strips(count: int) -> bytes:
    data = hostile.build_tiff_of_strips(width=8, height=count)
    return data.replace(struct.pack("<HHII", 259, 3, 1, 8), struct.pack("<HHII", 259, 3, 1, 1))


def tiff_header(width: int, height: int) -> bytes:
    entries = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1))
    return hostile.build_tiff(*entries, (273, 4, 1, 4096), (279, 4, 1, 8), data=bytes(8))


def tiff_values(tag: int, kind: int, count: int) -> bytes:
    entries = ((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1))
    return hostile.build_tiff(*entries, (tag, kind, count, 4096), data=bytes(8 * count))


def tiff_tags(count: int) -> bytes:
    entry = struct.pack("<HHII", 40_000, 3, 1, 0)
    return b"II*\0" + struct.pack("<IH", 8, count) + entry * count + bytes(4)


def jpeg_strips() -> bytes:
    strip = hostile.build_slow_jpeg(side=64, scans=90)
    entries = (
        *((256, 4, 1, 64), (257, 4, 1, 64_000), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 1), (277, 3, 1, 1)),
        *((273, 4, 1000, 4096), (278, 4, 1, 64), (279, 4, 1000, 8096)),
    )
    offsets, lengths = struct.pack("<I", 12_096) * 1000, struct.pack("<I", len(strip)) * 1000
    return hostile.build_tiff(*entries, data=offsets + lengths + strip)


def gif(blocks: bytes) -> bytes:
    return b"GIF89a\x08\x00\x08\x00\x00\x00\x00" + blocks


def webp_chunks(count: int, chunk: bytes = b"abcd\0\0\0\0") -> bytes:
    chunks = encode("WEBP")[12:] + chunk * count
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
