"""The header's facts are those of the decoded image, and hostile bytes cost little time."""

import contextlib
import hashlib
import io
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.errors import ClientError, ImageTooLarge, NotAnImage, TruncatedImage
from shared.jobs.inspection import inspect_image
from tests.support.cpu_time import measure_cpu_seconds
from tests.support.images import png_chunk
from worker.decoding.pixels import decode

MAX_PIXELS = 10_000_000
KINDS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]


def encode_image(
    kind: str, *, width: int = 37, height: int = 23, orientation: int | None = None, **options: object
) -> bytes:
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8))
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def inspect_if_allowed(data: bytes) -> None:
    with contextlib.suppress(ClientError):
        inspect_image(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_facts_are_those_of_the_file(kind: str) -> None:
    data = encode_image(kind)

    facts = inspect_image(data, max_pixels=MAX_PIXELS)

    assert (facts.format, facts.width, facts.height) == (kind.lower(), 37, 23)
    assert (facts.bytes, facts.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_size_is_that_of_the_decoded_image_in_any_orientation(kind: str, orientation: int) -> None:
    data = encode_image(kind, orientation=orientation)

    facts = inspect_image(data, max_pixels=MAX_PIXELS)

    assert (facts.width, facts.height) == decode(data, max_pixels=MAX_PIXELS).size


def test_exif_behind_the_pixels_of_a_png_is_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encode_image("PNG")
    data = plain[:-12] + png_chunk(b"eXIf", exif.tobytes()[6:]) + plain[-12:]

    facts = inspect_image(data, max_pixels=MAX_PIXELS)

    assert (facts.width, facts.height) == (23, 37) == decode(data, max_pixels=MAX_PIXELS).size


def test_a_multi_picture_object_is_a_jpeg() -> None:
    data = encode_image("MPO", save_all=True, append_images=[Image.new("RGB", (10, 10))])

    assert inspect_image(data, max_pixels=MAX_PIXELS).format == "jpeg"


def test_bytes_after_the_end_of_a_jpeg_are_ignored() -> None:
    assert inspect_image(encode_image("JPEG") + b"from the phone" * 100, max_pixels=MAX_PIXELS).width == 37


def test_the_end_marker_of_a_thumbnail_is_not_that_of_its_jpeg() -> None:
    whole = encode_image("JPEG", width=300, height=200)
    application = b"\xff\xe5" + struct.pack(">H", 2 + len(encode_image("JPEG"))) + encode_image("JPEG")
    data = whole[:2] + application + whole[2:-500]

    with pytest.raises(TruncatedImage):
        inspect_image(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", KINDS)
def test_a_shortened_file_is_truncated(kind: str, fraction: float) -> None:
    data = encode_image(kind, width=200, height=100)

    # A TIFF stores its directory behind the pixels, so a shortened one may have lost its header.
    with pytest.raises((TruncatedImage, NotAnImage) if kind == "TIFF" else TruncatedImage):
        inspect_image(data[: int(fraction * len(data))], max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_one_missing_byte_is_detected(kind: str) -> None:
    with pytest.raises(TruncatedImage):
        inspect_image(encode_image(kind)[:-1], max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_pixels_are_rejected_with_both_numbers(kind: str) -> None:
    with pytest.raises(ImageTooLarge, match=r"1200 pixels \(40 x 30\), at most 1199"):
        inspect_image(encode_image(kind, width=40, height=30), max_pixels=1199)


@pytest.mark.parametrize("data", [b"", b"{}", b"hello", b"\x00" * 100, b"%PDF-1.7", b"<svg></svg>", b"\xff\xd8\xff"])
def test_bytes_that_are_not_an_image_are_rejected(data: bytes) -> None:
    with pytest.raises((NotAnImage, TruncatedImage)):
        inspect_image(data, max_pixels=MAX_PIXELS)


@given(data=st.binary(max_size=200), start=st.sampled_from([encode_image(kind)[:30] for kind in KINDS]))
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=500, deadline=None)
def test_any_bytes_give_facts_or_a_client_error(data: bytes, start: bytes) -> None:
    for candidate in (data, start + data):
        with contextlib.suppress(ClientError):
            inspect_image(candidate, max_pixels=MAX_PIXELS)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=500, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32))
def test_a_damaged_file_gives_facts_or_a_client_error(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(encode_image(kind, orientation=6) if kind not in ("BMP", "GIF") else encode_image(kind))
    for _ in range(rng.randint(1, 12)):
        data[rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 120))] = rng.randrange(256)

    try:
        facts = inspect_image(bytes(data), max_pixels=MAX_PIXELS)
    except ClientError:
        return

    assert 0 < facts.width * facts.height <= MAX_PIXELS


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 2_000_000,
        b"\xff\xd8" + b"\xff" * 8_000_000,
        b"\xff\xd8\xff\xe0\x00\x02" + b"\x00" * 8_000_000,
        encode_image("PNG")[:33] + png_chunk(b"tEXt", b"a\x00b") * 500_000,
        b"GIF89a\x01\x00\x01\x00\x00\x00\x00" + b"!\xfe" + b"\x01a" * 4_000_000,
        b"GIF89a\x01\x00\x01\x00\x00\x00\x00" + b"!\xfe\x00" * 2_000_000,
        b"GIF89a\x01\x00\x01\x00\x00\x00\x00" + b"\x00" * 8_000_000,
    ],
    ids=["jpeg segments", "jpeg padding", "jpeg junk", "png chunks", "gif comment", "gif extensions", "gif junk"],
)
def test_eight_hostile_megabytes_cost_at_most_100_ms(data: bytes) -> None:
    assert 1000 * measure_cpu_seconds(lambda: inspect_if_allowed(data)) < 100
