"""What was drawn by eye takes the place of what networks found, and nothing else does."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from worker.training.coco_panoptic import VOID, Scene, read_index, read_scene
from worker.training.outlines import OUTLINES, main, read_outlines
from worker.training.pseudo_labels import CATEGORIES

NAMES = ["person", "car", "road"]
PERSON, CAR, ROAD = 0, 1, 2
SIZE = 80, 40
LEFT, RIGHT = [0, 0, 19, 0, 19, 39, 0, 39], [40, 0, 59, 0, 59, 39, 40, 39]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two photos, found in each: road above, and below a person who is no more than half sure."""
    for kind in ("images", "panoptic", "confidence"):
        (tmp_path / kind).mkdir()
    found = np.zeros((20, 20, 3), np.uint8)
    found[:10, :, 0], found[10:, :, 0] = 1, 2
    sure = np.where(found[..., 0] == 1, 200, 120).astype(np.uint8)
    for name in ("street", "yard"):
        Image.new("RGB", SIZE).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(found).save(tmp_path / "panoptic" / f"{name}.png")
        Image.fromarray(sure).save(tmp_path / "confidence" / f"{name}.png")
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


def laid(
    labelled: Path, out: Path, photos: Mapping[str, Any], *, kept_back: Sequence[str] = (), part: str = "learned"
) -> dict[str, Scene]:
    drawn = labelled / "drawn.json"
    drawn.write_text(json.dumps({"groups": {"both": ["person", "car"]}, "kept_back": kept_back, "photos": photos}))
    main(["--labelled", str(labelled), "--outlines", str(drawn), "--out", str(out)])
    return {photo.image.stem: read_scene(photo) for photo in read_index(out / part, NAMES)}


def drawing(*things: Mapping[str, Any], complete: Sequence[str] = ("both",)) -> dict[str, Any]:
    return {"complete": complete, "outlines": things}


def thing(category: str, *parts: Any, **more: Any) -> dict[str, Any]:
    return {"category": category, "parts": parts, **more}


def kinds(scene: Scene) -> NDArray[np.int16]:
    """(H, W), what is where."""
    return scene.kinds[scene.regions]


def test_drawn_things_take_the_place_of_what_was_found_of_their_kinds(labelled: Path, tmp_path: Path) -> None:
    drawn = drawing(thing("car", LEFT), thing("car", RIGHT, crowd=True))

    scene = laid(labelled, tmp_path / "out", {"street": drawn})["street"]

    assert (kinds(scene)[:, :20] == CAR).all()
    assert (kinds(scene)[:, 40:60] == CAR).all()
    assert (kinds(scene)[:18, 22:38] == ROAD).all()
    assert (kinds(scene)[22:, 22:38] == VOID).all(), "the person that was found was no person"
    assert (scene.sure[:, :20] == 255).all()
    assert (scene.sure[2:18, 24:36] == 200).all()
    assert scene.crowds[scene.regions[20, 50]]
    assert not scene.crowds[scene.regions[20, 10]]
    assert scene.certain.tolist() == [True, True, True]


def test_what_is_in_front_covers_what_is_behind(labelled: Path, tmp_path: Path) -> None:
    wide = [0, 0, 59, 0, 59, 39, 0, 39]
    hidden = [44, 4, 50, 4, 50, 20]

    scene = laid(
        labelled,
        tmp_path / "out",
        {"street": drawing(thing("person", hidden), thing("car", wide), thing("person", LEFT, RIGHT))},
    )["street"]

    assert (kinds(scene)[:, 22:38] == CAR).all()
    assert scene.regions[20, 10] == scene.regions[20, 50] != scene.regions[20, 30], "two parts are one thing"
    assert (scene.kinds == PERSON).sum() == 1, "nothing is left to see of the hidden one"


def test_what_was_found_of_other_kinds_stays(labelled: Path, tmp_path: Path) -> None:
    scenes = laid(labelled, tmp_path / "out", {"street": drawing(thing("car", LEFT), complete=["car"])})

    assert (kinds(scenes["street"])[22:, 22:] == PERSON).all()
    assert (scenes["street"].sure[24:, 24:] == 120).all()
    assert scenes["street"].certain.tolist() == [False, True, True]
    assert (kinds(scenes["yard"])[22:] == PERSON).all(), "of this photo nothing was drawn"
    assert scenes["yard"].certain.tolist() == [False, False, True]


def test_photos_to_judge_on_are_not_among_those_to_learn_from(labelled: Path, tmp_path: Path) -> None:
    photos = {"street": drawing(thing("car", LEFT))}

    learned = laid(labelled, tmp_path / "out", photos, kept_back=["street"])
    held_out = laid(labelled, tmp_path / "again", photos, kept_back=["street"], part="held_out")

    assert list(learned) == ["yard"]
    assert list(held_out) == ["street"]
    assert (kinds(held_out["street"])[:, :20] == CAR).all()


def test_the_outlines_of_the_project_are_whole() -> None:
    drawings, kept_back = read_outlines(OUTLINES)

    assert kept_back <= set(drawings)
    assert all(one.category in CATEGORIES for drawing in drawings.values() for one in drawing.outlines)
    assert all(drawing.complete <= set(CATEGORIES) for drawing in drawings.values())
    assert all(len(part) > 2 for drawing in drawings.values() for one in drawing.outlines for part in one.parts)
