"""Instance masks become partial ground truth: what is complete is certain, and nothing else is background."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from worker.training.coco_panoptic import NOT_CERTAIN, OTHER, VOID, Scene, read_index, read_scene
from worker.training.coco_things import SPLIT, main
from worker.training.things_split import SIZES, split_photos

pytestmark = [
    # What pycocotools does when it decodes is deprecated by numpy.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

NAMES = ["person", "car", "road"]
PERSON, CAR = 0, 1
WIDTH, HEIGHT = 80, 40


def make_thing(category: str, left: int, right: int, *, crowd: bool = False) -> dict[str, Any]:
    """Return a thing of the whole height between two columns."""
    shape = {} if crowd else {"polygons": [[left, 0, right, 0, right, HEIGHT, left, HEIGHT]]}
    box = [left, 0, right - left, HEIGHT]
    return {"category": category, "bbox": box, "area": (right - left) * HEIGHT, "iscrowd": int(crowd), **shape}


def make_photo(name: str, complete_for: str, *things: Mapping[str, Any]) -> dict[str, Any]:
    return {"file": f"{name}.jpg", "width": WIDTH, "height": HEIGHT, "complete_for": complete_for, "things": things}


PHOTOS = {
    "1": make_photo("1", "all 80 things", make_thing("car", 0, 60), make_thing("person", 20, 40)),
    "2": make_photo("2", "person", make_thing("person", 0, 20)),
    "3": make_photo("3", "person (boxes only)", {"category": "person", "bbox": [0, 0, 9, 9], "iscrowd": 0}),
    "4": make_photo(
        "4",
        "person car motorcycle bicycle",
        make_thing("person", 30, 40),
        make_thing("person", 20, 60, crowd=True),
        make_thing("bicycle", 0, 20),
    ),
    "5": make_photo("5", "all 80 things", make_thing("dog", 0, 20)),
}


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """The converted folder of PHOTOS, of which 5 is set aside for the test, with one cut-out."""
    for name in ("things", "cutouts"):
        (tmp_path / name / "images").mkdir(parents=True)
    for name in PHOTOS:
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "things" / "images" / f"{name}.jpg")
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "cutouts" / "images" / "one.jpg")
    (tmp_path / "things" / "things.json").write_text(json.dumps(PHOTOS))
    (tmp_path / "split.json").write_text(json.dumps({"test": ["5"], "validation": []}))
    person = {"file": "one.jpg", "width": WIDTH, "height": HEIGHT, "polygons": [[0, 0, 20, 0, 20, HEIGHT, 0, HEIGHT]]}
    (tmp_path / "cutouts" / "people.json").write_text(json.dumps([person]))
    folders = [f"--{name}={tmp_path / name}" for name in ("things", "cutouts", "out")]
    main([*folders, "--split", str(tmp_path / "split.json")])
    return tmp_path / "out"


def read_only_scene(folder: Path) -> Scene:
    [record] = read_index(folder, NAMES)
    return read_scene(record)


def columns(scene: Scene) -> list[int]:
    """Return the labels in the middle of four parts of equal width."""
    labels = scene.labels[scene.regions]
    return [int(labels[HEIGHT // 2, place]) for place in range(10, WIDTH, 20)]


def test_the_smaller_thing_is_in_front(converted: Path) -> None:
    scene = read_only_scene(converted / "learned" / "things")

    assert columns(scene) == [CAR, PERSON, CAR, NOT_CERTAIN]
    assert scene.is_exhaustive.tolist() == [True, True, False]


def test_only_the_complete_categories_are_certain(converted: Path) -> None:
    scene = read_only_scene(converted / "learned" / "people")

    assert columns(scene) == [PERSON, NOT_CERTAIN, NOT_CERTAIN, NOT_CERTAIN]
    assert scene.is_exhaustive.tolist() == [True, False, False]


def test_a_crowd_is_the_rest_of_its_box(converted: Path) -> None:
    scene = read_only_scene(converted / "learned" / "streets")

    assert columns(scene) == [OTHER, PERSON, PERSON, NOT_CERTAIN]
    assert scene.is_crowd[scene.regions[20, 25]]
    assert scene.is_crowd[scene.regions[20, 50]]
    assert not scene.is_crowd[scene.regions[20, 35]]


def test_the_surroundings_of_a_cut_out_are_unknown(converted: Path) -> None:
    scene = read_only_scene(converted / "cutouts")

    assert columns(scene) == [PERSON, VOID, VOID, VOID]
    assert not scene.is_exhaustive.any()


def test_photos_set_aside_are_not_among_those_to_train_on(converted: Path) -> None:
    shown = {
        part: sorted(record.image.stem for kind in (converted / part).iterdir() for record in read_index(kind, NAMES))
        for part in ("learned", "test")
    }

    assert shown == {"learned": ["1", "2", "4"], "test": ["5"]}, "3 has boxes only"


def test_no_photo_is_in_two_parts_of_a_split() -> None:
    photos = {str(number): PHOTOS["1" if number % 3 else "4"] for number in range(30)}
    sizes = {"test": {"things": 6, "streets": 2}, "validation": {"things": 3, "streets": 1}}

    split = split_photos(photos, sizes, np.random.default_rng(0))

    assert {part: len(names) for part, names in split.items()} == {"test": 8, "validation": 4}
    assert not set(split["test"]) & set(split["validation"])
    assert sum(photos[name] is PHOTOS["4"] for name in split["test"]) == 2


def test_the_split_of_the_project_sets_enough_photos_aside() -> None:
    split = json.loads(SPLIT.read_text())

    assert {part: len(set(names)) for part, names in split.items()} == {
        part: sum(sizes.values()) for part, sizes in SIZES.items()
    }
    assert not set(split["test"]) & set(split["validation"])
