"""Versions of one image in other depths and colour spaces have the label map of the plain one, by the real model."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from shared.jobs.parameters import SegmentParameters
from tests.integration.test_same_as_transformers import load
from tests.support.images import coffee, encode, grey
from tests.support.tiffs import encode_tiff
from worker.decoding.decoders import DecodeLimits, Decoders
from worker.decoding.request import ImageRequest
from worker.segmenter import LabelMap, Segmentation, Segmenter, prepare_image
from worker.slabs import SlabAllocator, SlabPool

MIN_EQUAL_SHARE = 0.99
MIN_SIMILAR_SHARE = 0.9  # colour spaces are converted with loss, as the reference does
GREY, RGB = np.asarray(grey()), np.asarray(coffee())

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load("embedded", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    pool = SlabPool.create(64 << 20)
    decoders = Decoders(SlabAllocator(pool), DecodeLimits())
    decoders.start()
    yield decoders
    decoders.stop()
    pool.close()


def tiff(array: np.ndarray, **options: Any) -> bytes:
    return encode_tiff(array, photometric="minisblack" if array.ndim == 2 else "rgb", **options)


def lab() -> bytes:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(coffee(), *profiles, outputMode="LAB")
    assert image is not None
    return encode(image, "TIFF")


def draw_labels(segmenter: Segmenter, decoders: Decoders, data: bytes) -> LabelMap:
    """Return the label map of a file that a child process decodes, as in a worker."""
    with decoders.decode(data, ImageRequest(1_000_000, None)) as decoded:
        image = Image.fromarray(decoded.model_input.pixels.copy())
    [result] = segmenter.segment([prepare_image(segmenter, image, SegmentParameters(threshold=0.5))])
    assert isinstance(result, Segmentation)
    assert len(result.segments) > 1
    return result.label_map


DEEP = {
    "PNG, 16 bits": encode(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
    "TIFF, 16 bits": tiff(GREY.astype(np.uint16) * 257),
    "TIFF, 16 bits, the other order": tiff(GREY.astype(np.uint16) << 8, order=">", compression="deflate"),
    "TIFF, 16 signed bits": tiff((GREY.astype(np.int32) * 257 - 32_768).astype(np.int16)),
    "TIFF, 32 bits": tiff(GREY.astype(np.uint32) << 24),
    "TIFF, floats": tiff((GREY / 255).astype(np.float32)),
    "TIFF, floats of another range": tiff((GREY * 0.1 - 7).astype(np.float32)),
}
COLOURS = {
    "TIFF, planes of 16 bits": (tiff(np.moveaxis(RGB.astype(np.uint16) * 257, 2, 0), planarconfig="separate"), 0.99),
    "JPEG, CMYK": (encode(coffee().convert("CMYK"), "JPEG", quality=95), MIN_SIMILAR_SHARE),
    "TIFF, CMYK": (encode(coffee().convert("CMYK"), "TIFF"), MIN_SIMILAR_SHARE),
    "TIFF, YCbCr": (encode(coffee().convert("YCbCr"), "TIFF"), MIN_SIMILAR_SHARE),
    "TIFF, Lab": (lab(), MIN_SIMILAR_SHARE),
}


@pytest.mark.parametrize("name", DEEP)
def test_grey_of_more_bits_has_the_masks_of_8(segmenter: Segmenter, decoders: Decoders, name: str) -> None:
    expected = draw_labels(segmenter, decoders, encode(grey(), "PNG"))

    assert (draw_labels(segmenter, decoders, DEEP[name]) == expected).mean() >= MIN_EQUAL_SHARE


@pytest.mark.parametrize("name", COLOURS)
def test_other_colour_spaces_have_the_masks_of_rgb(segmenter: Segmenter, decoders: Decoders, name: str) -> None:
    expected = draw_labels(segmenter, decoders, encode(coffee(), "PNG"))
    data, min_share = COLOURS[name]

    assert (draw_labels(segmenter, decoders, data) == expected).mean() >= min_share
