"""A mask that is written from runs must be a file that every decoder reads, and say the same as the map."""

import io
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from worker.formats.mask_png import Runs

# Around the longest copy, where a run's last piece has every length that there is.
widths = st.one_of(st.integers(1, 20), st.integers(250, 265), st.integers(510, 525))


@st.composite
def label_maps(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Rows that are mostly even, with pieces of other values."""
    height, width = draw(st.integers(1, 6)), draw(widths)
    label_map = np.full((height, width), draw(st.integers(0, 2)), np.uint8)
    for _ in range(draw(st.integers(0, 8))):
        row, begin, length = draw(st.integers(0, height - 1)), draw(st.integers(0, width)), draw(st.integers(1, width))
        label_map[row, begin : begin + length] = draw(st.integers(0, 2))
    return label_map


@given(label_map=label_maps(), number=st.integers(1, 3))
def test_pillow_and_opencv_read_the_mask_that_was_meant(label_map: NDArray[np.uint8], number: int) -> None:
    meant = np.where(label_map == number, 255, 0)

    png = Runs.of(label_map).mask_png(number)

    image = Image.open(io.BytesIO(png))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), meant)
    assert np.array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED), meant)


@given(label_map=label_maps())
def test_the_pixels_unpack_with_their_checksum_and_nothing_is_left_over(label_map: NDArray[np.uint8]) -> None:
    png = Runs.of(label_map).mask_png(1)

    unpacking = zlib.decompressobj()
    rows = unpacking.decompress(png[png.index(b"IDAT") + 4 : png.index(b"IEND") - 8])

    assert unpacking.eof
    assert unpacking.unused_data == b""
    assert len(rows) == label_map.shape[0] * (label_map.shape[1] + 1)


@pytest.mark.parametrize("length", range(1, 2 * 258 + 3))
def test_a_run_of_every_length_comes_back(length: int) -> None:
    label_map = np.zeros((2, 600), np.uint8)
    label_map[0, 7 : 7 + length] = 1

    decoded = np.asarray(Image.open(io.BytesIO(Runs.of(label_map).mask_png(1))))

    assert np.array_equal(decoded, 255 * label_map)


def test_an_even_expanse_costs_next_to_nothing() -> None:
    label_map = np.zeros((3000, 4000), np.uint8)
    label_map[1000:2000] = 1

    assert len(Runs.of(label_map).mask_png(1)) < 20_000
