"""Outlines replace the labels of their categories and no others."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from worker.training.classes import QUERIES_PER_CLASS
from worker.training.coco_panoptic import NO_THING, VOID, Scene, read_index, read_scene
from worker.training.outlines import OUTLINES, main, read_outlines
from worker.training.partial_truth import CATEGORIES

NAMES = ["person", "car", "road"]
PERSON, CAR, ROAD = 0, 1, 2
SIZE = 80, 40
LEFT, RIGHT = [0, 0, 19, 0, 19, 39, 0, 39], [40, 0, 59, 0, 59, 39, 40, 39]


@pytest.fixture
def labelled_folder(tmp_path: Path) -> Path:
    """A folder of two images with labels: road in the upper half, and below a person of confidence 120."""
    for name in ("images", "panoptic", "confidence"):
        (tmp_path / name).mkdir()
    labels = np.zeros((20, 20, 3), np.uint8)
    labels[:10, :, 0], labels[10:, :, 0] = 1, 2
    confidence = np.where(labels[..., 0] == 1, 200, 120).astype(np.uint8)
    for name in ("street", "yard"):
        Image.new("RGB", SIZE).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(labels).save(tmp_path / "panoptic" / f"{name}.png")
        Image.fromarray(confidence).save(tmp_path / "confidence" / f"{name}.png")
    segments = [{"id": 1, "category_id": 12, "iscrowd": 0}, {"id": 2, "category_id": 10, "iscrowd": 0}]
    index = {
        "images": [{"id": number, "file_name": f"{name}.jpg"} for number, name in ((5, "street"), (6, "yard"))],
        "annotations": [
            {"image_id": number, "file_name": f"{name}.png", "segments_info": segments, "certain": [12]}
            for number, name in ((5, "street"), (6, "yard"))
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, start=10)],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(index))
    return tmp_path


def merge(
    labelled_folder: Path, out: Path, entries: Mapping[str, Any], *, held_out: Sequence[str] = (), part: str = "learned"
) -> dict[str, Scene]:
    """Merge outlines into the labels and return the scenes of one part, by the images' names."""
    outlines = labelled_folder / "drawn.json"
    outlines.write_text(json.dumps({"groups": {"both": ["person", "car"]}, "kept_back": held_out, "photos": entries}))
    main(["--labelled", str(labelled_folder), "--outlines", str(outlines), "--out", str(out)])
    return {record.image.stem: read_scene(record) for record in read_index(out / part, NAMES)}


def make_entry(*outlines: Mapping[str, Any], complete: Sequence[str] = ("both",)) -> dict[str, Any]:
    return {"complete": complete, "outlines": outlines}


def make_outline(category: str, *parts: Any, **more: Any) -> dict[str, Any]:
    return {"category": category, "parts": parts, **more}


def pixel_labels(scene: Scene) -> NDArray[np.int16]:
    """Return (H, W), the label at each pixel."""
    return scene.labels[scene.regions]


def test_outlines_replace_the_labels_of_their_categories(labelled_folder: Path, tmp_path: Path) -> None:
    drawn = make_entry(make_outline("car", LEFT), make_outline("car", RIGHT, crowd=True))

    scene = merge(labelled_folder, tmp_path / "out", {"street": drawn})["street"]

    assert (pixel_labels(scene)[:, :20] == CAR).all()
    assert (pixel_labels(scene)[:, 40:60] == CAR).all()
    assert (pixel_labels(scene)[:18, 22:38] == ROAD).all()
    assert (pixel_labels(scene)[22:, 22:38] == VOID).all(), "persons are annotated exhaustively, and there is none here"
    assert (scene.confidence[:, :20] == 255).all()
    assert (scene.confidence[2:18, 24:36] == 200).all()
    assert scene.is_crowd[scene.regions[20, 50]]
    assert not scene.is_crowd[scene.regions[20, 10]]
    assert scene.is_exhaustive.tolist() == [True, True, True]


def test_outlines_in_front_cover_those_behind(labelled_folder: Path, tmp_path: Path) -> None:
    wide = [0, 0, 59, 0, 59, 39, 0, 39]
    hidden = [44, 4, 50, 4, 50, 20]
    outlines = make_outline("person", hidden), make_outline("car", wide), make_outline("person", LEFT, RIGHT)

    scene = merge(labelled_folder, tmp_path / "out", {"street": make_entry(*outlines)})["street"]

    assert (pixel_labels(scene)[:, 22:38] == CAR).all()
    assert scene.regions[20, 10] == scene.regions[20, 50] != scene.regions[20, 30], "two parts are one thing"
    assert (scene.labels == PERSON).sum() == 1, "the hidden person has no pixel left"


def test_labels_of_other_categories_stay(labelled_folder: Path, tmp_path: Path) -> None:
    entry = make_entry(make_outline("car", LEFT), complete=["car"])

    scenes = merge(labelled_folder, tmp_path / "out", {"street": entry})

    assert (pixel_labels(scenes["street"])[22:, 22:] == PERSON).all()
    assert (scenes["street"].confidence[24:, 24:] == 120).all()
    assert scenes["street"].is_exhaustive.tolist() == [False, True, True]
    assert (pixel_labels(scenes["yard"])[22:] == PERSON).all(), "this image has no outlines"
    assert scenes["yard"].is_exhaustive.tolist() == [False, False, True]


def test_held_out_images_are_not_among_those_to_train_on(labelled_folder: Path, tmp_path: Path) -> None:
    entries = {"street": make_entry(make_outline("car", LEFT))}

    learned = merge(labelled_folder, tmp_path / "out", entries, held_out=["street"])
    held_out = merge(labelled_folder, tmp_path / "again", entries, held_out=["street"], part="held_out")

    assert list(learned) == ["yard"]
    assert list(held_out) == ["street"]
    assert (pixel_labels(held_out["street"])[:, :20] == CAR).all()


@pytest.mark.parametrize(
    ("complete", "elsewhere"),
    [
        pytest.param(list(QUERIES_PER_CLASS), NO_THING, id="all things"),
        pytest.param(["person", "car"], VOID, id="some things"),
    ],
)
def test_outlines_alone_are_partial_truth(
    labelled_folder: Path, tmp_path: Path, complete: list[str], elsewhere: int
) -> None:
    outlines = make_outline("car", LEFT), make_outline("person", RIGHT)
    entries = {"street": make_entry(*outlines, complete=complete)}
    drawn = labelled_folder / "drawn.json"
    drawn.write_text(json.dumps({"groups": {}, "kept_back": [], "photos": entries}))

    arguments = ["--photos", str(labelled_folder / "images"), "--outlines", str(drawn), "--out", str(tmp_path / "out")]
    main(arguments)

    [record] = read_index(tmp_path / "out" / "learned", NAMES)
    labels = pixel_labels(read_scene(record))
    assert [int(labels[20, place]) for place in (10, 30, 50)] == [CAR, elsewhere, PERSON]
    assert record.is_exhaustive.tolist() == [True, True, "road" in complete]
    assert not read_index(tmp_path / "out" / "held_out", NAMES)


def test_the_outlines_of_the_project_are_valid() -> None:
    images, held_out = read_outlines(OUTLINES)

    assert held_out <= set(images)
    assert all(one.category in CATEGORIES for image in images.values() for one in image.outlines)
    assert all(image.complete <= set(CATEGORIES) for image in images.values())
    assert all(len(part) > 2 for image in images.values() for one in image.outlines for part in one.parts)
