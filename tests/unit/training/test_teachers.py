"""Teacher features are cached and aligned with the ground truth, and a pixel classifier is trained on them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.training.boxes import Box
from worker.training.coco_panoptic import read_index
from worker.training.pixel_classifier import ClassifierRecipe, collect_samples, read_view_truths, train_classifier
from worker.training.pseudo_labels import label_images
from worker.training.teachers import GRID, SIDE, FeatureCache, Maps, grid_features
from worker.training.views import make_view

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ["person", "sky-other-merged"]
RECIPE = ClassifierRecipe(members=2, width=16, epochs=60, batch=64, rate=1e-2)


class Colours:
    """A feature extractor whose maps are the image itself, at the resolutions of the real networks."""

    def __init__(self) -> None:
        self.calls = 0

    def extract(self, image: Image.Image) -> Maps:
        self.calls += 1
        assert image.size == (SIDE, SIDE)
        sides = {"objects": 33, "surfaces": GRID, "coarse": 16, "small_coarse": 8}
        return {name: np.asarray(image.resize((side, side))) for name, side in sides.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of a blue person at different places under a red sky; the green ground is of another class."""
    for name in ("images", "panoptic"):
        (tmp_path / name).mkdir()
    annotations = []
    for number in range(1, 5):
        image, truth = np.zeros((100, 140, 3), np.uint8), np.zeros((100, 140, 3), np.uint8)
        for colour, segment_id, box in (
            ((0, 200, 0), 3, (slice(None), slice(None))),
            ((200, 0, 0), 2, (slice(0, 50), slice(None))),
            ((0, 0, 200), 1, (slice(20, 90), slice(20 * number, 20 * number + 40))),
        ):
            image[box], truth[box] = colour, (segment_id, 0, 0)
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.jpg")
        Image.fromarray(truth).save(tmp_path / "panoptic" / f"{number}.png")
        segments = [{"id": one, "category_id": one} for one in (1, 2, 3)]
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    categories = [{"id": place, "name": name} for place, name in enumerate([*NAMES, "toothbrush"], start=1)]
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(1, 5)]
    index = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "panoptic.json").write_text(json.dumps(index))
    return tmp_path


def test_views_are_the_whole_image_its_mirror_image_and_reproducible_crops() -> None:
    whole, mirrored, part = (make_view("image", (120, 80), number) for number in (0, 1, 2))

    assert (whole.box, whole.is_mirrored) == ((0, 0, 120, 80), False)
    assert (mirrored.box, mirrored.is_mirrored) == ((0, 0, 120, 80), True)
    assert make_view("image", (120, 80), 2) == part != make_view("other", (120, 80), 2)
    for number in range(2, 30):
        left, top, right, bottom = make_view("image", (120, 80), number).box
        assert 0 <= left < right <= 120.001
        assert 0 <= top < bottom <= 80.001


def test_features_of_a_view_are_computed_once(folder: Path, tmp_path: Path) -> None:
    cache, image = FeatureCache(Colours(), tmp_path / "memory", {}), folder / "images" / "1.jpg"

    first, again = cache.read(image, 0), cache.read(image, 0)

    assert cache.teachers.calls == 1  # type: ignore[attr-defined]
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert grid_features(first).shape[0] == GRID * GRID


def test_boxes_are_a_feature_map(folder: Path, tmp_path: Path) -> None:
    box = Box("person", 0.7, 0, 0, 70, 100)
    cache, image = FeatureCache(Colours(), tmp_path / "memory", {"1.jpg": [box]}), folder / "images" / "1.jpg"

    whole, mirrored = (cache.read(image, number)["boxes"].max(-1) for number in (0, 1))

    assert whole[:, : GRID // 2] == pytest.approx(0.7)
    assert whole[:, GRID // 2 :].max() == 0
    assert np.array_equal(mirrored, whole[:, ::-1])


def test_truth_and_features_of_a_view_are_aligned(folder: Path, tmp_path: Path) -> None:
    cache = FeatureCache(Colours(), tmp_path / "memory", {})
    record = read_index(folder, NAMES)[1]

    for number, truth in enumerate(read_view_truths(record, 4, len(NAMES))):
        colours = grid_features(cache.read(record.image, number), ["surfaces"])[:, :3]
        # Blue is a person, red is sky, green is another class.
        assert (np.array([1, 2, 0])[colours.argmax(1)] == truth).mean() > 0.9


def test_a_classifier_labels_images_like_its_training_images(folder: Path, tmp_path: Path) -> None:
    cache = FeatureCache(Colours(), tmp_path / "memory", {})
    annotated, [unlabelled] = read_index(folder, NAMES)[:3], read_index(folder, NAMES)[3:]
    samples = collect_samples(annotated, cache, len(NAMES), views=2, per_view=200, seed=0)

    classifier = train_classifier(samples, len(NAMES), RECIPE)

    probs = classifier.predict(grid_features(cache.read(unlabelled.image, 0)))
    [truth] = read_view_truths(unlabelled, 1, len(NAMES))
    assert probs.shape == (GRID * GRID, len(NAMES) + 1)
    assert probs.sum(1) == pytest.approx(1, abs=1e-5)
    assert (probs.argmax(1) == truth).mean() > 0.85

    label_images([unlabelled.image], cache, classifier, NAMES, tmp_path / "labels")

    [record] = read_index(tmp_path / "labels", NAMES)
    assert {0, 1} <= set(record.labels.values())
    assert record.confidence is not None
    assert record.confidence.exists()


def test_the_same_seed_gives_the_same_classifier(folder: Path, tmp_path: Path) -> None:
    cache, records = FeatureCache(Colours(), tmp_path / "memory", {}), read_index(folder, NAMES)
    recipe = ClassifierRecipe(members=1, width=8, epochs=1, batch=32)
    samples = collect_samples(records, cache, len(NAMES), views=1, per_view=50, seed=0)
    features = grid_features(cache.read(records[0].image, 0))

    first, again = (train_classifier(samples, len(NAMES), recipe).predict(features) for _ in range(2))

    assert np.array_equal(first, again)
