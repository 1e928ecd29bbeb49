"""A classifier learns from what other networks see."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.training.boxes import Box
from worker.training.coco_panoptic import read_index
from worker.training.pixel_classifier import Course, fitted, gathered, truths_of
from worker.training.pseudo_labels import label_all
from worker.training.teachers import GRID, SIDE, Maps, Memory, features_of
from worker.training.views import view_of

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ["person", "sky-other-merged"]
COURSE = Course(members=2, width=16, rounds=60, batch=64, rate=1e-2)


class Colours:
    """Sees nothing but colours, at the resolutions that the networks have."""

    def __init__(self) -> None:
        self.looked = 0

    def look(self, image: Image.Image) -> Maps:
        self.looked += 1
        assert image.size == (SIDE, SIDE)
        sides = {"objects": 33, "surfaces": GRID, "coarse": 16, "small_coarse": 8}
        return {name: np.asarray(image.resize((side, side))) for name, side in sides.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos of a person, blue, more or less to the right, under a red sky; the ground is of another class."""
    for kind in ("images", "panoptic"):
        (tmp_path / kind).mkdir()
    annotations = []
    for number in range(1, 5):
        image, truth = np.zeros((100, 140, 3), np.uint8), np.zeros((100, 140, 3), np.uint8)
        for colour, identifier, box in (
            ((0, 200, 0), 3, (slice(None), slice(None))),
            ((200, 0, 0), 2, (slice(0, 50), slice(None))),
            ((0, 0, 200), 1, (slice(20, 90), slice(20 * number, 20 * number + 40))),
        ):
            image[box], truth[box] = colour, (identifier, 0, 0)
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.jpg")
        Image.fromarray(truth).save(tmp_path / "panoptic" / f"{number}.png")
        segments = [{"id": one, "category_id": one} for one in (1, 2, 3)]
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    categories = [{"id": place, "name": name} for place, name in enumerate([*NAMES, "toothbrush"], start=1)]
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(1, 5)]
    index = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "panoptic.json").write_text(json.dumps(index))
    return tmp_path


def test_views_are_the_photo_its_mirror_image_and_parts_that_do_not_change() -> None:
    whole, mirrored, part = (view_of("photo", (120, 80), number) for number in (0, 1, 2))

    assert (whole.box, whole.is_mirrored) == ((0, 0, 120, 80), False)
    assert (mirrored.box, mirrored.is_mirrored) == ((0, 0, 120, 80), True)
    assert view_of("photo", (120, 80), 2) == part != view_of("other", (120, 80), 2)
    for number in range(2, 30):
        left, top, right, bottom = view_of("photo", (120, 80), number).box
        assert 0 <= left < right <= 120.001
        assert 0 <= top < bottom <= 80.001


def test_each_view_is_looked_at_once(folder: Path, tmp_path: Path) -> None:
    memory, photo = Memory(Colours(), tmp_path / "memory", {}), folder / "images" / "1.jpg"

    first, again = memory.look(photo, 0), memory.look(photo, 0)

    assert memory.teachers.looked == 1  # type: ignore[attr-defined]
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert features_of(first).shape[0] == GRID * GRID


def test_boxes_are_part_of_what_is_seen(folder: Path, tmp_path: Path) -> None:
    box = Box("person", 0.7, 0, 0, 70, 100)
    memory, photo = Memory(Colours(), tmp_path / "memory", {"1.jpg": [box]}), folder / "images" / "1.jpg"

    whole, mirrored = (memory.look(photo, number)["boxes"].max(-1) for number in (0, 1))

    assert whole[:, : GRID // 2] == pytest.approx(0.7)
    assert whole[:, GRID // 2 :].max() == 0
    assert np.array_equal(mirrored, whole[:, ::-1])


def test_truth_is_laid_over_the_same_places_as_what_is_seen(folder: Path, tmp_path: Path) -> None:
    memory = Memory(Colours(), tmp_path / "memory", {})
    photo = read_index(folder, NAMES)[1]

    for number, truth in enumerate(truths_of(photo, 4, len(NAMES))):
        colours = features_of(memory.look(photo.image, number), ["surfaces"])[:, :3]
        # Blue is a person, red is sky, green is something else.
        assert (np.array([1, 2, 0])[colours.argmax(1)] == truth).mean() > 0.9


def test_a_classifier_labels_photos_like_those_it_learned_from(folder: Path, tmp_path: Path) -> None:
    memory = Memory(Colours(), tmp_path / "memory", {})
    learned, [asked] = read_index(folder, NAMES)[:3], read_index(folder, NAMES)[3:]
    samples = gathered(learned, memory, len(NAMES), views=2, per_view=200, seed=0)

    classifier = fitted(samples, len(NAMES), COURSE)

    odds = classifier.odds(features_of(memory.look(asked.image, 0)))
    [truth] = truths_of(asked, 1, len(NAMES))
    assert odds.shape == (GRID * GRID, len(NAMES) + 1)
    assert odds.sum(1) == pytest.approx(1, abs=1e-5)
    assert (odds.argmax(1) == truth).mean() > 0.85

    label_all([asked.image], memory, classifier, NAMES, tmp_path / "labels")

    [photo] = read_index(tmp_path / "labels", NAMES)
    assert {0, 1} <= set(photo.kinds.values())
    assert photo.confidence is not None
    assert photo.confidence.exists()


def test_the_same_seed_gives_the_same_classifier(folder: Path, tmp_path: Path) -> None:
    memory, photos = Memory(Colours(), tmp_path / "memory", {}), read_index(folder, NAMES)
    course = Course(members=1, width=8, rounds=1, batch=32)
    samples = gathered(photos, memory, len(NAMES), views=1, per_view=50, seed=0)
    features = features_of(memory.look(photos[0].image, 0))

    first, again = (fitted(samples, len(NAMES), course).odds(features) for _ in range(2))

    assert np.array_equal(first, again)
