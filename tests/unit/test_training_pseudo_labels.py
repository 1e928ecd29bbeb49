"""Labels made by networks say what is certain, and nothing of the rest."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.embedded_model.coco_panoptic import NO_THING, VOID, Scene, read_index, read_scene
from worker.embedded_model.pseudo_labels import OBJECTS, SIDE, Seen, labelled, pieces, subject_of, write_index

NAMES = ["person", "cat", "dog", "zebra", "bottle", "sky-other-merged", "road"]
SKY, WALL = 3, 1


def seen(*boxes: tuple[str, slice, slice], surface: int = WALL) -> Seen:
    """Objects in boxes, and one surface all over the upper half."""
    objects, surfaces = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    surfaces[: SIDE // 2] = surface
    for name, rows, columns in boxes:
        objects[rows, columns] = OBJECTS.index(name)
    return Seen(objects, surfaces)


def scene(stem: str, what: Seen, folder: Path) -> Scene | None:
    (folder / "images").mkdir()
    (folder / "panoptic").mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(folder / "images" / f"{stem}.jpg")
    entry = labelled(folder / "images" / f"{stem}.jpg", 1, what, folder)
    if entry is None:
        return None
    write_index(folder, [entry])
    return read_scene(read_index(folder, NAMES)[0])


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
    ],
)
def test_a_photo_is_of_what_its_imagenet_class_says(stem: str, subject: str | None) -> None:
    assert subject_of(stem) == subject


def test_an_object_counts_where_network_and_name_agree(tmp_path: Path) -> None:
    box = (slice(100, 200), slice(100, 200))

    found = scene("n02123045_tabby", seen(("cat", *box), surface=SKY), tmp_path)

    assert found is not None
    cat = np.flatnonzero(found.kinds == NAMES.index("cat"))
    assert (found.regions == cat).sum() == 100 * 100
    assert np.isin(found.kinds[found.regions[0]], NAMES.index("sky-other-merged")).all()
    assert (found.kinds[found.regions[220:]] == NO_THING).all()
    assert certain(found) == {"person", "dog", "zebra", "road", "bottle"}


def test_an_object_that_the_name_denies_is_left_open(tmp_path: Path) -> None:
    box = (slice(100, 200), slice(100, 200))

    found = scene("n02120505_grey_fox", seen(("dog", *box), surface=SKY), tmp_path)

    assert found is not None
    assert (found.kinds[found.regions[box]][30:] == VOID).all()
    assert "dog" not in certain(found)


def test_an_animal_that_the_network_has_no_name_for_is_what_it_takes_it_for(tmp_path: Path) -> None:
    boxes = ("horse", slice(50, 200), slice(50, 120)), ("cow", slice(50, 200), slice(120, 200))

    found = scene("n02391049_zebra", seen(*boxes), tmp_path)

    assert found is not None
    assert (found.kinds == NAMES.index("zebra")).sum() == 1
    assert (found.regions == np.flatnonzero(found.kinds == NAMES.index("zebra"))).sum() == 150 * 150


def test_people_side_by_side_are_a_crowd(tmp_path: Path) -> None:
    boxes = ("person", slice(20, 240), slice(10, 60)), ("person", slice(100, 200), slice(80, 250))

    found = scene("n03028079_church", seen(*boxes), tmp_path)

    assert found is not None
    people = found.kinds == NAMES.index("person")
    assert sorted(found.crowds[people].tolist()) == [False, True]


def test_a_photo_that_says_nothing_is_left_out(tmp_path: Path) -> None:
    assert scene("n03028079_church", seen(), tmp_path) is None


def test_small_pieces_are_no_objects() -> None:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[:100, :100] = mask[150:160, 150:160] = True

    [piece] = pieces(mask)

    assert piece.sum() == 100 * 100
    assert pieces(mask & ~piece) == []
