"""People of whom only boxes are known get masks that fill them; anything in another box may be a person."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.images import astronaut
from worker.embedded_model import FOLDER
from worker.training.boxed_people import BOXES_ONLY, find_people, label_photo, main
from worker.training.coco_panoptic import NOT_CERTAIN, read_index, read_scene

WIDTH, HEIGHT = 100, 60
LEFT, RIGHT = [10, 10, 20, 40], [60, 10, 20, 40]
PERSON = 0


def make_entry(*boxes: list[int]) -> dict[str, object]:
    things = [{"category": "person", "bbox": box, "iscrowd": 0} for box in boxes]
    return {"file": "1.jpg", "width": WIDTH, "height": HEIGHT, "complete_for": BOXES_ONLY, "things": things}


def show(*boxes: list[int], prob: float = 0.9) -> NDArray[np.float32]:
    """Return what a query shows: (HEIGHT, WIDTH), `prob` in the boxes."""
    probs = np.full((HEIGHT, WIDTH), 0.1, np.float32)
    for left, top, width, height in boxes:
        probs[top : top + height, left : left + width] = prob
    return probs


def test_a_box_gets_the_mask_that_fills_it_and_any_other_is_a_crowd() -> None:
    truth = label_photo(make_entry(LEFT, RIGHT), np.stack([show(LEFT), show([60, 10, 8, 20])]))

    assert [segment.is_crowd for segment in truth.segments] == [False, True, False]
    assert (truth.ids[10:50, 10:30] == 3).all()
    assert (truth.ids[10:50, 60:80] == 2).all()
    outside = np.ones((HEIGHT, WIDTH), np.bool_)
    outside[10:50, 10:30] = outside[10:50, 60:80] = False
    assert (truth.ids[outside] == 1).all(), "no person is anywhere else"
    assert truth.certain == {"person"}


def test_what_a_query_shows_beside_its_person_is_unknown() -> None:
    probs = np.maximum(show(LEFT), show([40, 0, 5, 5], [10, 50, 20, 2], prob=0.6))

    ids = label_photo(make_entry(LEFT), probs[None]).ids

    assert (ids[0:5, 40:45] == 0).all(), "a part of its own"
    assert (ids[50:52, 10:30] == 0).all(), "an edge that is not sure"


def test_pieces_in_a_box_apart_are_one_person() -> None:
    pieces = np.stack([show([10, 10, 20, 22]), show([10, 30, 20, 20])])

    people = find_people(make_entry(LEFT, RIGHT), pieces)

    assert list(people) == [0]
    assert people[0].subject.sum() == 20 * 40


def test_pieces_in_boxes_that_overlap_may_be_of_two_people() -> None:
    pieces = np.stack([show([10, 10, 20, 22]), show([10, 30, 20, 20])])

    assert not find_people(make_entry(LEFT, [15, 20, 20, 30]), pieces)


def test_one_query_is_no_two_people() -> None:
    people = find_people(make_entry([10, 10, 20, 40], [11, 10, 20, 40]), show([10, 10, 21, 40])[None])

    assert len(people) == 1


def test_a_query_that_shows_nothing_fills_no_box() -> None:
    assert not find_people(make_entry(LEFT), show()[None])
    assert not find_people(make_entry(), show(LEFT)[None])


@pytest.mark.parametrize(("box", "found"), [([0, 10, 390, 502], 1), ([400, 0, 112, 60], 0)])
def test_photos_are_labelled_by_a_model(tmp_path: Path, box: list[int], found: int) -> None:
    (tmp_path / "things" / "images").mkdir(parents=True)
    astronaut().save(tmp_path / "things" / "images" / "1.jpg")
    photos = {"1": make_entry(box) | {"width": 512, "height": 512}, "2": make_entry() | {"complete_for": "person"}}
    (tmp_path / "things" / "things.json").write_text(json.dumps(photos))

    main(["--things", str(tmp_path / "things"), "--model", str(FOLDER), "--out", str(tmp_path / "out")])

    records = read_index(tmp_path / "out", ["person"])
    assert len(records) == found
    for record in records:
        scene = read_scene(record)
        labels = scene.labels[scene.regions]
        assert (labels == PERSON).mean() > 0.2
        assert labels[100, 500] == NOT_CERTAIN
        assert scene.is_exhaustive.all()
