"""The decoder gives the pixels of each real file; variants of a file are tested here only."""

import numpy as np
import pytest

from tests.real_files.files import EXACT, RealFile, Same
from tests.real_files.table import FILES
from worker.decoding.pixels import decode

MAX_PIXELS = 10_000_000
MAX_MEAN_DIFFERENCE = 1.0  # of values of 0 to 255, between two right decoders
ACCEPTED = {name: one for name, one in FILES.items() if isinstance(one.expected, Same)}


@pytest.mark.parametrize("file", ACCEPTED.values(), ids=list(ACCEPTED))
def test_the_decoder_gives_the_pixels_of_the_twin(file: RealFile) -> None:
    pixels = np.asarray(decode(file.build(), max_pixels=MAX_PIXELS)).astype(np.int16)

    twin = np.asarray(file.expected.twin())
    assert pixels.shape == twin.shape
    difference = np.abs(pixels - twin).mean()
    assert difference == 0 if file.expected.min_share >= EXACT else difference <= MAX_MEAN_DIFFERENCE
