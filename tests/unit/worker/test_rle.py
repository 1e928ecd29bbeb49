"""rle.json against a decoder of our own, written from the description of COCO's encoding."""

import json
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.jobs.result import Segment
from tests.support.jobs import segment_halves
from worker.formats import rle
from worker.formats.rendered import RenderSource
from worker.segmenter import Segmentation


def decode(size: list[int], counts: str) -> NDArray[np.bool_]:
    """Return the mask, (H, W), of an encoding: counts beyond the second are differences to the one before the last."""
    runs: list[int] = []
    for value in read_numbers(counts):
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    flat = np.zeros(size[0] * size[1], bool)
    edges = np.cumsum([0, *runs])
    for number, (start, end) in enumerate(pairwise(edges)):
        flat[start:end] = number % 2 == 1
    return flat.reshape(size, order="F")


def read_numbers(counts: str) -> list[int]:
    """Read signed numbers of five bits a character, the lowest first; bit 5 says that more follow."""
    numbers, value, shift = [], 0, 0
    for character in counts.encode():
        group = character - 48
        value |= (group & 0x1F) << shift
        shift += 5
        if not group & 0x20:
            numbers.append(value - (1 << shift) if group & 0x10 else value)
            value, shift = 0, 0
    return numbers


@st.composite
def label_maps(draw: st.DrawFn) -> NDArray[np.uint8]:
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    values = draw(st.lists(st.integers(0, 3), min_size=height * width, max_size=height * width))
    return np.array(values, np.uint8).reshape(height, width)


@given(label_maps())
def test_every_mask_is_decoded_exactly(label_map: NDArray[np.uint8]) -> None:
    segments = tuple(Segment(number, "thing", number, 0.5, 0, (0, 0, 0, 0)) for number in (1, 2, 3))

    document = json.loads(rle.render(RenderSource(Segmentation(label_map, segments))).content)

    assert document["size"] == list(label_map.shape)
    for segment in document["segments"]:
        encoded = segment["segmentation"]
        assert (decode(encoded["size"], encoded["counts"]) == (label_map == segment["id"])).all()


def test_a_segment_has_the_members_of_a_coco_annotation() -> None:
    document = json.loads(rle.render(RenderSource(segment_halves(6, 4))).content)

    cat, dog = document["segments"]
    assert (cat["id"], cat["category_id"], cat["label"], cat["score"]) == (1, 15, "cat", 0.98)
    assert (dog["area"], dog["bbox"]) == (12, [3, 0, 3, 4])
