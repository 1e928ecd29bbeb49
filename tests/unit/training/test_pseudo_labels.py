"""Pseudo-labels carry the confidence of the classifier, and improbable pixels stay unlabelled."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.training.boxes import Box
from worker.training.coco_panoptic import NO_THING, OTHER, VOID, Scene, read_index, read_scene
from worker.training.imagenet_names import ClassProbs, correct_boxes_by_name, find_subject
from worker.training.partial_truth import write_index
from worker.training.pseudo_labels import SIDE, label_image, large_components
from worker.training.teachers import GRID

NAMES = ["person", "cat", "dog", "car", "sky-other-merged", "road"]
BOX_CELLS = slice(16, 48), slice(16, 48)
MIDDLE_PIXELS = slice(90, 160), slice(90, 160)


def make_probs(*boxes: tuple[tuple[slice, slice], dict[str, float]]) -> ClassProbs:
    """Return probabilities of sky everywhere, and in boxes of the given classes, with the rest for any other class."""
    probs = np.zeros((GRID, GRID, len(NAMES) + 1), np.float32)
    probs[..., NAMES.index("sky-other-merged")] = 1
    for box, class_probs in boxes:
        probs[box] = 0
        for name, prob in class_probs.items():
            probs[(*box, NAMES.index(name))] = prob
        probs[(*box, -1)] = 1 - sum(class_probs.values())
    return probs


def label_scene(stem: str, probs: ClassProbs, folder: Path, boxes: Sequence[Box] = ()) -> Scene | None:
    """Label one image and read the result back; None where it is not labelled."""
    for name in ("images", "panoptic", "confidence"):
        (folder / name).mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(folder / "images" / f"{stem}.jpg")
    entry = label_image(folder / "images" / f"{stem}.jpg", 1, probs, boxes, NAMES, folder)
    if entry is None:
        return None
    write_index(folder, [entry])
    return read_scene(read_index(folder, NAMES)[0])


def middle_labels(one: Scene) -> set[int]:
    """Return the labels in the middle of the image."""
    return set(one.labels[one.regions[MIDDLE_PIXELS]].ravel().tolist())


def exhaustive_names(one: Scene) -> set[str]:
    return {name for name, is_exhaustive in zip(NAMES, one.is_exhaustive, strict=True) if is_exhaustive}


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
def test_the_imagenet_class_gives_the_subject(stem: str, subject: str | None) -> None:
    assert find_subject(stem) == subject


def test_probable_classes_are_labelled_with_their_probability_as_confidence(tmp_path: Path) -> None:
    labelled = label_scene("n03028079_church", make_probs((BOX_CELLS, {"road": 0.6})), tmp_path)

    assert labelled is not None
    assert middle_labels(labelled) == {NAMES.index("road")}
    assert labelled.confidence[MIDDLE_PIXELS] == pytest.approx(255 * 0.6, abs=2)
    assert set(labelled.labels[labelled.regions[:40]].ravel()) == {NAMES.index("sky-other-merged")}
    assert labelled.confidence[:40].min() > 250
    assert exhaustive_names(labelled) == {"person", "cat", "dog", "car", "road", "sky-other-merged"}


def test_improbable_classes_stay_unlabelled(tmp_path: Path) -> None:
    names = ("cat", "dog", "car", "person")
    boxes = [Box(name, 0.8, 0.25, 0.25, 0.75, 0.75) for name in names]

    labelled = label_scene("n03028079_church", make_probs((BOX_CELLS, dict.fromkeys(names, 0.25))), tmp_path, boxes)

    assert labelled is not None
    assert middle_labels(labelled) == {VOID}
    assert not exhaustive_names(labelled) & {"cat", "dog", "car"}


def test_pixels_of_uncertain_stuff_are_labelled_as_no_thing(tmp_path: Path) -> None:
    uncertain = {"sky-other-merged": 0.33, "road": 0.33}
    probs = make_probs((BOX_CELLS, uncertain))
    probs[(*BOX_CELLS, -1)] = 0

    labelled = label_scene("n03028079_church", probs / probs.sum(-1, keepdims=True), tmp_path)

    assert labelled is not None
    assert middle_labels(labelled) <= {NO_THING, NAMES.index("sky-other-merged")}


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        pytest.param("n02123045_tabby", NAMES.index("cat"), id="animal subject"),
        pytest.param("n02391373_mountain_goat", OTHER, id="animal that is not a trained class"),
        pytest.param("n02120505_grey_fox", VOID, id="lookalike of a trained class"),
        pytest.param("n03028079_church", NAMES.index("dog"), id="no animal"),
        pytest.param("lunch_with_cat", NAMES.index("dog"), id="unknown subject"),
    ],
)
def test_the_file_name_decides_the_class_of_an_animal(stem: str, expected: int, tmp_path: Path) -> None:
    labelled = label_scene(stem, make_probs((BOX_CELLS, {"cat": 0.3, "dog": 0.6})), tmp_path)

    assert labelled is not None
    assert middle_labels(labelled) == {expected}


def test_an_image_of_a_wild_cat_is_not_exhaustive_for_cats(tmp_path: Path) -> None:
    labelled = label_scene("n02127052_lynx", make_probs((BOX_CELLS, {"cat": 0.05, "dog": 0.05})), tmp_path)

    assert labelled is not None
    assert not exhaustive_names(labelled) & {"cat", "dog"}
    assert "car" in exhaustive_names(labelled)


def test_people_side_by_side_are_a_crowd(tmp_path: Path) -> None:
    tall, wide = (slice(4, 60), slice(2, 14)), (slice(24, 48), slice(20, 62))

    labelled = label_scene("n03028079_church", make_probs((tall, {"person": 1}), (wide, {"person": 1})), tmp_path)

    assert labelled is not None
    assert sorted(labelled.is_crowd[labelled.labels == NAMES.index("person")].tolist()) == [False, True]


def test_people_in_separate_boxes_are_separate_segments(tmp_path: Path) -> None:
    both, away = (slice(20, 60), slice(8, 40)), (slice(20, 60), slice(48, 64))
    boxes = [
        Box("person", 0.9, left, 20 / 64, right, 60 / 64) for left, right in ((8 / 64, 24 / 64), (24 / 64, 40 / 64))
    ]
    probs = make_probs((both, {"person": 0.9}), (away, {"person": 0.9}))

    labelled = label_scene("n03028079_church", probs, tmp_path, boxes)

    assert labelled is not None
    is_person = labelled.labels == NAMES.index("person")
    # People outside of the boxes form one crowd.
    assert sorted(labelled.is_crowd[is_person].tolist()) == [False, False, True]
    middles = {int(labelled.regions[160, column]) for column in (60, 130)}
    assert len(middles) == 2
    assert all(is_person[one] and not labelled.is_crowd[one] for one in middles)


def test_a_box_raises_the_probability_of_its_class(tmp_path: Path) -> None:
    doubtful, box = make_probs((BOX_CELLS, {"cat": 0.3})), Box("cat", 0.8, 0.25, 0.25, 0.75, 0.75)

    for place, (boxes, expected) in enumerate((([], OTHER), ([box], NAMES.index("cat")))):
        folder = tmp_path / str(place)
        folder.mkdir()
        labelled = label_scene("n03028079_church", doubtful, folder, boxes)
        assert labelled is not None
        assert middle_labels(labelled) == {expected}


def test_the_subject_of_an_image_needs_no_box(tmp_path: Path) -> None:
    labelled = label_scene("n02123045_tabby", make_probs((BOX_CELLS, {"cat": 0.4})), tmp_path)

    assert labelled is not None
    assert middle_labels(labelled) == {NAMES.index("cat")}


@pytest.mark.parametrize(
    ("stem", "names"),
    [
        pytest.param("n02123045_tabby", ["cat", "person", "car"], id="animal subject"),
        pytest.param("n01443537_goldfish", ["person", "car"], id="animal that is not a trained class"),
        pytest.param("n02480495_orangutan", ["car"], id="ape instead of a person"),
        pytest.param("n04285008_sports_car", ["dog", "person", "car"], id="vehicle"),
        pytest.param("n03770679_minivan", ["dog", "person", "car"], id="vehicle of another class"),
        pytest.param("a-team_pizza", ["dog", "person", "car"], id="unknown subject"),
    ],
)
def test_boxes_are_corrected_by_the_file_name(stem: str, names: list[str]) -> None:
    boxes = [Box(name, 0.9, 0, 0, 1, 1) for name in ("dog", "person", "truck" if "car" in stem else "car")]

    assert [box.name for box in correct_boxes_by_name(boxes, stem)] == names


def test_an_image_without_probable_classes_is_left_out(tmp_path: Path) -> None:
    everywhere = slice(None), slice(None)

    assert label_scene("n03028079_church", make_probs((everywhere, {"road": 0.1})), tmp_path) is None


def test_small_components_are_no_things() -> None:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[:100, :100] = mask[150:160, 150:160] = True

    [component] = large_components(mask)

    assert component.sum() == 100 * 100
    assert large_components(mask & ~component) == []
