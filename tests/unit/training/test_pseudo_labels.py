"""Labels made by networks say how sure they are, and what they know nothing of stays open."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.training.boxes import Box
from worker.training.coco_panoptic import NO_THING, OTHER, VOID, Scene, read_index, read_scene
from worker.training.imagenet_names import Odds, named, subject_of
from worker.training.pseudo_labels import SIDE, labelled, pieces, write_index
from worker.training.teachers import GRID

NAMES = ["person", "cat", "dog", "car", "sky-other-merged", "road"]
WHERE = slice(16, 48), slice(16, 48)
MIDDLE = slice(90, 160), slice(90, 160)


def seen(*boxes: tuple[tuple[slice, slice], dict[str, float]]) -> Odds:
    """Sky for sure, and in boxes what is named; the rest of a box's odds are those of anything else."""
    odds = np.zeros((GRID, GRID, len(NAMES) + 1), np.float32)
    odds[..., NAMES.index("sky-other-merged")] = 1
    for box, likely in boxes:
        odds[box] = 0
        for name, share in likely.items():
            odds[(*box, NAMES.index(name))] = share
        odds[(*box, -1)] = 1 - sum(likely.values())
    return odds


def scene(stem: str, what: Odds, folder: Path, boxes: Sequence[Box] = ()) -> Scene | None:
    for kind in ("images", "panoptic", "confidence"):
        (folder / kind).mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(folder / "images" / f"{stem}.jpg")
    entry = labelled(folder / "images" / f"{stem}.jpg", 1, what, boxes, NAMES, folder)
    if entry is None:
        return None
    write_index(folder, [entry])
    return read_scene(read_index(folder, NAMES)[0])


def kinds(one: Scene) -> set[int]:
    """Return what is in the middle."""
    return set(one.kinds[one.regions[MIDDLE]].ravel().tolist())


def certain(one: Scene) -> set[str]:
    return {name for name, is_certain in zip(NAMES, one.certain, strict=True) if is_certain}


@pytest.mark.parametrize(
    ("stem", "subject"),
    [
        ("n02123159_tiger_cat", "cat"),
        ("n02110958_pug", "dog"),
        ("n02391049_zebra", "zebra"),
        ("n04285008_sports_car", "car"),
        ("n02120505_grey_fox", None),
        ("n03028079_church", None),
        ("a-pizza", None),
    ],
)
def test_a_photo_is_of_what_its_imagenet_class_says(stem: str, subject: str | None) -> None:
    assert subject_of(stem) == subject


def test_what_is_likely_is_labelled_with_how_likely_it_is(tmp_path: Path) -> None:
    found = scene("n03028079_church", seen((WHERE, {"road": 0.6})), tmp_path)

    assert found is not None
    assert kinds(found) == {NAMES.index("road")}
    assert found.sure[MIDDLE] == pytest.approx(255 * 0.6, abs=2)
    assert set(found.kinds[found.regions[:40]].ravel()) == {NAMES.index("sky-other-merged")}
    assert found.sure[:40].min() > 250
    assert certain(found) == {"person", "cat", "dog", "car", "road", "sky-other-merged"}


def test_what_nobody_can_tell_is_left_open(tmp_path: Path) -> None:
    names = ("cat", "dog", "car", "person")
    boxes = [Box(name, 0.8, 0.25, 0.25, 0.75, 0.75) for name in names]

    found = scene("n03028079_church", seen((WHERE, dict.fromkeys(names, 0.25))), tmp_path, boxes)

    assert found is not None
    assert kinds(found) == {VOID}
    assert not certain(found) & {"cat", "dog", "car"}


def test_where_only_surfaces_are_in_question_there_is_no_thing(tmp_path: Path) -> None:
    unclear = {"sky-other-merged": 0.33, "road": 0.33}
    odds = seen((WHERE, unclear))
    odds[(*WHERE, -1)] = 0

    found = scene("n03028079_church", odds / odds.sum(-1, keepdims=True), tmp_path)

    assert found is not None
    assert kinds(found) <= {NO_THING, NAMES.index("sky-other-merged")}


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        pytest.param("n02123045_tabby", NAMES.index("cat"), id="the animal that it is of"),
        pytest.param("n02391373_mountain_goat", OTHER, id="an animal that is not taught"),
        pytest.param("n02120505_grey_fox", VOID, id="an animal that looks like one that is taught"),
        pytest.param("n03028079_church", NAMES.index("dog"), id="no animal"),
        pytest.param("lunch_with_cat", NAMES.index("dog"), id="a photo of nobody knows what"),
    ],
)
def test_the_name_decides_which_animal_it_is(stem: str, expected: int, tmp_path: Path) -> None:
    found = scene(stem, seen((WHERE, {"cat": 0.3, "dog": 0.6})), tmp_path)

    assert found is not None
    assert kinds(found) == {expected}


def test_a_wild_cat_says_nothing_of_cats(tmp_path: Path) -> None:
    found = scene("n02127052_lynx", seen((WHERE, {"cat": 0.05, "dog": 0.05})), tmp_path)

    assert found is not None
    assert not certain(found) & {"cat", "dog"}
    assert "car" in certain(found)


def test_people_side_by_side_are_a_crowd(tmp_path: Path) -> None:
    tall, wide = (slice(4, 60), slice(2, 14)), (slice(24, 48), slice(20, 62))

    found = scene("n03028079_church", seen((tall, {"person": 1}), (wide, {"person": 1})), tmp_path)

    assert found is not None
    assert sorted(found.crowds[found.kinds == NAMES.index("person")].tolist()) == [False, True]


def test_people_in_boxes_of_their_own_are_told_apart(tmp_path: Path) -> None:
    both, away = (slice(20, 60), slice(8, 40)), (slice(20, 60), slice(48, 64))
    boxes = [
        Box("person", 0.9, left, 20 / 64, right, 60 / 64) for left, right in ((8 / 64, 24 / 64), (24 / 64, 40 / 64))
    ]

    found = scene("n03028079_church", seen((both, {"person": 0.9}), (away, {"person": 0.9})), tmp_path, boxes)

    assert found is not None
    is_person = found.kinds == NAMES.index("person")
    # Who else is there has no box, and may be several.
    assert sorted(found.crowds[is_person].tolist()) == [False, False, True]
    middles = {int(found.regions[160, column]) for column in (60, 130)}
    assert len(middles) == 2
    assert all(is_person[one] and not found.crowds[one] for one in middles)


def test_a_box_makes_what_it_holds_likelier(tmp_path: Path) -> None:
    doubtful, box = seen((WHERE, {"cat": 0.3})), Box("cat", 0.8, 0.25, 0.25, 0.75, 0.75)

    for place, (boxes, expected) in enumerate((([], OTHER), ([box], NAMES.index("cat")))):
        folder = tmp_path / str(place)
        folder.mkdir()
        found = scene("n03028079_church", doubtful, folder, boxes)
        assert found is not None
        assert kinds(found) == {expected}


def test_what_a_photo_is_of_needs_no_box(tmp_path: Path) -> None:
    found = scene("n02123045_tabby", seen((WHERE, {"cat": 0.4})), tmp_path)

    assert found is not None
    assert kinds(found) == {NAMES.index("cat")}


@pytest.mark.parametrize(
    ("stem", "names"),
    [
        pytest.param("n02123045_tabby", ["cat", "person", "car"], id="the animal that it is of"),
        pytest.param("n01443537_goldfish", ["person", "car"], id="an animal that is not taught"),
        pytest.param("n02480495_orangutan", ["car"], id="an ape is no person"),
        pytest.param("n04285008_sports_car", ["dog", "person", "car"], id="a vehicle"),
        pytest.param("n03770679_minivan", ["dog", "person", "car"], id="another vehicle"),
        pytest.param("a-team_pizza", ["dog", "person", "car"], id="a photo of nobody knows what"),
    ],
)
def test_boxes_are_corrected_by_the_name_too(stem: str, names: list[str]) -> None:
    boxes = [Box(name, 0.9, 0, 0, 1, 1) for name in ("dog", "person", "truck" if "car" in stem else "car")]

    assert [box.name for box in named(boxes, stem)] == names


def test_a_photo_that_says_nothing_is_left_out(tmp_path: Path) -> None:
    everywhere = slice(None), slice(None)

    assert scene("n03028079_church", seen((everywhere, {"road": 0.1})), tmp_path) is None


def test_small_pieces_are_no_objects() -> None:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[:100, :100] = mask[150:160, 150:160] = True

    [piece] = pieces(mask)

    assert piece.sum() == 100 * 100
    assert pieces(mask & ~piece) == []
