"""Run-length data of a BMP gives the pixels that Pillow gives, in time that grows with the data and not the image."""

import contextlib
import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.errors import ClientError
from tests.support.cpu_time import measure_cpu_seconds
from tests.support.hostile_images import build_run_length_bmp
from worker.decoding.pixels import decode

MAX_PIXELS = 64_000_000
marks = st.one_of(
    st.tuples(st.integers(1, 30), st.integers(0, 255)).map(bytes),
    st.sampled_from([b"\x00\x00", b"\x00\x02\x01\x00", b"\x00\x02\x00\x01", b"\x00\x02\x03\x02"]),
    st.binary(min_size=3, max_size=12).map(
        lambda pixels: bytes((0, len(pixels))) + pixels + b"\x00" * (len(pixels) % 2)
    ),
    st.binary(min_size=1, max_size=6),
)


@given(
    data=st.lists(marks, max_size=40).map(b"".join),
    size=st.tuples(st.integers(1, 20), st.integers(1, 12)),
    bits=st.sampled_from([4, 8]),
)
def test_the_pixels_are_those_of_pillow(data: bytes, size: tuple[int, int], bits: int) -> None:
    file = build_run_length_bmp(data + b"\x00\x00" * size[1], size=size, bits=bits)
    try:
        expected = Image.open(BytesIO(file)).convert("RGB")
    except (OSError, ValueError):
        with pytest.raises(ClientError):
            decode(file, max_pixels=MAX_PIXELS)
        return

    assert decode(file, max_pixels=MAX_PIXELS).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "data",
    [b"\x00\x00" * 500, b"\x00\x02\x00\x01" * 500, b"\xff\x11" * 256_000, b"\x00\x00" * 500_000],
    ids=["ends of lines", "moves", "runs", "a megabyte of ends of lines"],
)
@pytest.mark.parametrize("bits", [4, 8])
def test_run_length_data_of_a_large_image_takes_little_time(data: bytes, bits: int) -> None:
    file = build_run_length_bmp(data, size=(60_000, 1000), bits=bits)

    def decode_if_allowed() -> None:
        with contextlib.suppress(ClientError):
            decode(file, max_pixels=MAX_PIXELS)

    assert measure_cpu_seconds(decode_if_allowed) < 1.5


def test_a_photo_of_runs_is_decoded() -> None:
    rows = b"".join(bytes((40, row)) + b"\x00\x00" for row in range(30))
    file = build_run_length_bmp(rows + b"\x00\x01", size=(40, 30), bits=8)

    image = decode(file, max_pixels=MAX_PIXELS)

    assert (image.size, image.getpixel((5, 29)), image.getpixel((5, 0))) == ((40, 30), (0, 0, 0), (29, 29, 29))
    assert struct.unpack_from("<I", file, 30)[0] == 1
