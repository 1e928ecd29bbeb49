"""A mask PNG encoded from runs must be readable by every decoder and equal the mask of the label map."""

import io
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from worker.formats.mask_png import RunLengthEncoding

# Around multiples of the longest match (258), so that every length of a run's last token occurs.
widths = st.one_of(st.integers(1, 20), st.integers(250, 265), st.integers(510, 525))


@st.composite
def label_maps(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Draw label maps whose rows are mostly uniform, with runs of other values."""
    height, width = draw(st.integers(1, 6)), draw(widths)
    label_map = np.full((height, width), draw(st.integers(0, 2)), np.uint8)
    for _ in range(draw(st.integers(0, 8))):
        row, begin, length = draw(st.integers(0, height - 1)), draw(st.integers(0, width)), draw(st.integers(1, width))
        label_map[row, begin : begin + length] = draw(st.integers(0, 2))
    return label_map


@given(label_map=label_maps(), number=st.integers(1, 3))
def test_pillow_and_opencv_decode_the_mask(label_map: NDArray[np.uint8], number: int) -> None:
    expected = np.where(label_map == number, 255, 0)

    png = RunLengthEncoding.from_label_map(label_map).encode_mask_png(number)

    image = Image.open(io.BytesIO(png))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), expected)
    assert np.array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED), expected)


@given(label_map=label_maps())
def test_the_zlib_stream_has_a_valid_checksum_and_no_trailing_bytes(label_map: NDArray[np.uint8]) -> None:
    png = RunLengthEncoding.from_label_map(label_map).encode_mask_png(1)

    decompressor = zlib.decompressobj()
    rows = decompressor.decompress(png[png.index(b"IDAT") + 4 : png.index(b"IEND") - 8])

    assert decompressor.eof
    assert decompressor.unused_data == b""
    assert len(rows) == label_map.shape[0] * (label_map.shape[1] + 1)


@pytest.mark.parametrize("length", range(1, 2 * 258 + 3))
def test_a_run_of_any_length_is_decoded_exactly(length: int) -> None:
    label_map = np.zeros((2, 600), np.uint8)
    label_map[0, 7 : 7 + length] = 1

    decoded = np.asarray(Image.open(io.BytesIO(RunLengthEncoding.from_label_map(label_map).encode_mask_png(1))))

    assert np.array_equal(decoded, 255 * label_map)


def test_a_uniform_area_compresses_to_a_few_kilobytes() -> None:
    label_map = np.zeros((3000, 4000), np.uint8)
    label_map[1000:2000] = 1

    assert len(RunLengthEncoding.from_label_map(label_map).encode_mask_png(1)) < 20_000
