"""Results on variants of an image are compared segment by segment."""

import numpy as np
import pytest
from PIL import Image

from shared.jobs.result import Segment
from tests.evaluation.stability import Comparison, agreement, compare_variants, make_variants, summarize
from tests.support.images import cat
from worker.segmenter import Segmentation

Part = tuple[str, int, int]


def make_result(*parts: Part) -> Segmentation:
    """Return a result of 1 x 100 pixels: segments of a class from column to column."""
    labels = np.zeros((1, 100), np.uint8)
    for number, (_, left, right) in enumerate(parts, start=1):
        labels[:, left:right] = number
    segments = tuple(
        Segment(id=number, label_id=0, label=label, score=1.0, area=right - left, bbox=(left, 0, right - left, 1))
        for number, (label, left, right) in enumerate(parts, start=1)
    )
    return Segmentation(labels, segments)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([("person", 0, 40), ("dog", 50, 60)], 1.0, id="the same"),
        pytest.param([("dog", 50, 60), ("person", 0, 40)], 1.0, id="another order"),
        pytest.param([("person", 0, 40)], 0.9, id="one is missing"),
        pytest.param([("person", 0, 40), ("cat", 50, 60)], 0.9, id="another class"),
        pytest.param([("person", 0, 30), ("person", 30, 40), ("dog", 50, 60)], 0.9, id="in pieces"),
        pytest.param([], 0.5, id="nothing"),
    ],
)
def test_pixels_agree_where_paired_segments_meet(parts: list[Part], expected: float) -> None:
    one, other = make_result(("person", 0, 40), ("dog", 50, 60)), make_result(*parts)

    assert agreement(one, other, other.label_map) == pytest.approx(expected)
    assert agreement(other, one, one.label_map) == pytest.approx(expected)


def test_two_people_that_become_one_agree_for_one_of_them() -> None:
    one, other = make_result(("person", 0, 30), ("person", 30, 50)), make_result(("person", 0, 50))

    assert agreement(one, other, other.label_map) == pytest.approx(0.8)


def test_variants_have_a_label_map_of_the_size_of_the_image() -> None:
    image = cat().resize((100, 70))

    variants = list(make_variants(image))

    assert [one.name for one in variants] == ["jpeg 60", "jpeg 75", "jpeg 95", "flip", "scale 0.97", "scale 1.03"]
    assert [one.image.size for one in variants] == [*[(100, 70)] * 4, (97, 68), (103, 72)]
    for one in variants:
        brightness = np.asarray(one.image.convert("L"))
        difference = one.restore(brightness).astype(int) - np.asarray(image.convert("L"))
        assert difference.shape == (70, 100)
        assert np.abs(difference).mean() < 12, "every pixel is back in its place"


def test_a_segmenter_that_only_looks_at_brightness_is_stable() -> None:
    image = Image.fromarray(np.repeat(np.array([[[20] * 3] * 60 + [[230] * 3] * 40], np.uint8), 50, 0))

    def segment(shown: Image.Image) -> Segmentation:
        labels = (np.asarray(shown.convert("L")) > 120).astype(np.uint8)
        part = Segment(id=1, label_id=0, label="person", score=1.0, area=int(labels.sum()), bbox=(0, 0, 1, 1))
        return Segmentation(labels, (part,))

    comparisons = compare_variants(image, segment)

    assert min(one.agreement for one in comparisons) > 0.97
    assert {one.people for one in comparisons} == {(1, 1)}


def test_figures_are_over_images_and_people_over_cases_that_have_some() -> None:
    steady = [Comparison("flip", 1.0, (1, 1)), Comparison("jpeg 60", 0.8, (1, 1))]
    shaky = [Comparison("flip", 0.4, (0, 0)), Comparison("jpeg 60", 0.6, (2, 1))]

    figures = summarize([steady, shaky])

    assert figures["agreement"] == pytest.approx(0.7)
    assert figures["worst_5_percent"] == pytest.approx(0.52)
    assert figures["by_variant"] == pytest.approx({"flip": 0.7, "jpeg 60": 0.7})
    assert figures["same_people"] == pytest.approx(2 / 3)
    assert figures["cases_with_people"] == 3
