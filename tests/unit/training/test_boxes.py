"""Boxes of a detector are projected into views, and split the mask of a class into things."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from worker.training.boxes import Box, box_iou, project_boxes, read_boxes, score_maps, split_mask, suppress_duplicates
from worker.training.views import View

SIDE = 64


def box(left: float, top: float, right: float, bottom: float, score: float = 0.9, name: str = "person") -> Box:
    return Box(name, score, left, top, right, bottom)


def draw_boxes(*boxes: Box) -> NDArray[np.bool_]:
    """Return (SIDE, SIDE) bool, the union of the boxes."""
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    return np.logical_or.reduce(
        [(one.left <= columns) & (columns < one.right) & (one.top <= rows) & (rows < one.bottom) for one in boxes]
    )


def test_boxes_are_grouped_by_image(tmp_path: Path) -> None:
    entries = [
        {"file_name": name, "category": category, "bbox": [10, 20, 30, 40], "score": 0.5}
        for name, category in (("b.jpg", "cat"), ("a.jpg", "dog"), ("b.jpg", "car"))
    ]
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    first.write_text(json.dumps(entries[:2]))
    second.write_text(json.dumps(entries[2:]))

    boxes = read_boxes([first, second])

    assert boxes["a.jpg"] == [Box("dog", 0.5, 10, 20, 40, 60)]
    assert [one.name for one in boxes["b.jpg"]] == ["cat", "car"]


def test_boxes_are_clipped_to_the_view() -> None:
    whole = [box(10, 10, 60, 90)]

    assert project_boxes(View((0, 0, 100, 100), is_mirrored=False), whole) == [box(0.1, 0.1, 0.6, 0.9)]
    assert project_boxes(View((0, 0, 100, 100), is_mirrored=True), whole) == [box(0.4, 0.1, 0.9, 0.9)]
    assert project_boxes(View((50, 50, 100, 100), is_mirrored=False), whole) == [box(0.0, 0.0, 0.2, 0.8)]
    assert project_boxes(View((70, 0, 100, 100), is_mirrored=False), whole) == []


def test_the_box_of_the_highest_score_determines_a_score_map() -> None:
    maps = score_maps(
        [box(0, 0, 0.5, 1, 0.8), box(0.25, 0, 1, 1, 0.4), box(0, 0, 1, 1, 0.9, "kite")], ["cat", "person"], 4
    )

    assert maps[..., 0].max() == 0
    assert maps[0, :, 1] == pytest.approx([0.8, 0.8, 0.4, 0.4])


def test_two_people_get_the_pixels_of_their_boxes() -> None:
    left, right = box(0.125, 0.25, 0.5, 0.875), box(0.5, 0.25, 0.875, 0.875)

    parts, rest = split_mask(draw_boxes(left, right), [left, right])

    assert len(parts) == 2
    assert np.array_equal(parts[0], draw_boxes(left))
    assert np.array_equal(parts[1], draw_boxes(right))
    assert not rest.any()


def test_where_boxes_overlap_the_nearer_centre_decides() -> None:
    left, right = box(0.0, 0.0, 0.6, 1.0), box(0.4, 0.0, 1.0, 1.0)

    parts, _ = split_mask(np.ones((SIDE, SIDE), np.bool_), [left, right])

    columns = (np.arange(SIDE) + 0.5) / SIDE
    assert np.array_equal(parts[0][SIDE // 2], columns < 0.5)


def test_empty_duplicate_and_low_scored_boxes_are_no_things() -> None:
    mask = draw_boxes(box(0.1, 0.1, 0.5, 0.9))
    right = box(0.1, 0.1, 0.5, 0.9)

    for wrong in (box(0.5, 0.1, 1.0, 0.9), box(0.12, 0.1, 0.52, 0.9, 0.8), box(0.1, 0.1, 0.3, 0.5, 0.2)):
        parts, rest = split_mask(mask, [right, wrong])
        assert len(parts) == 1
        assert np.array_equal(parts[0] | rest, mask)


def test_pixels_outside_of_every_box_belong_to_none() -> None:
    boxed, alone = box(0.0, 0.0, 0.3, 0.3), box(0.7, 0.7, 1.0, 1.0)

    parts, rest = split_mask(draw_boxes(boxed, alone), [boxed])

    assert np.array_equal(parts[0], draw_boxes(boxed))
    assert np.array_equal(rest, draw_boxes(alone))


shares = st.floats(0, 1)


@st.composite
def any_box(draw: st.DrawFn) -> Box:
    left, right = sorted((draw(st.integers(0, 15)), draw(st.integers(16, 32))))
    top, bottom = sorted((draw(st.integers(0, 15)), draw(st.integers(16, 32))))
    return box(left / 32, top / 32, right / 32, bottom / 32, draw(shares))


@given(st.lists(any_box(), max_size=6), st.integers(0, 2**32 - 1))
def test_parts_and_rest_are_a_partition_of_the_mask(boxes: list[Box], seed: int) -> None:
    mask = np.random.default_rng(seed).random((32, 32)) < 0.7

    parts, rest = split_mask(mask, boxes)

    assert np.array_equal(np.sum([*parts, rest], axis=0), mask.astype(int))


@given(st.lists(any_box(), max_size=6))
def test_suppression_keeps_one_of_each_group_of_duplicates(boxes: list[Box]) -> None:
    kept = suppress_duplicates(boxes)

    assert all(box_iou(one, other) <= 0.6 for place, one in enumerate(kept) for other in kept[:place])
    assert all(box_iou(one, one) == pytest.approx(1) for one in kept)
    assert all(any(box_iou(one, other) > 0.6 for other in kept) for one in boxes if one not in kept)
