"""Photos in pairs: both halves keep their things, and what fills both is one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.evaluation import pairs
from tests.evaluation.quality_data import read_dataset, truth_of

COLOURS = {7: (200, 30, 30), 8: (30, 200, 30), 300: (30, 30, 200)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos with a person on the left half and grass on the right; in the last the person is one of a crowd."""
    folder = tmp_path / "photos"
    for kind in ("images", "panoptic"):
        (folder / kind).mkdir(parents=True)
    index: dict[str, list[Any]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 5, "name": "person", "isthing": 1}, {"id": 9, "name": "grass-merged", "isthing": 0}],
    }
    for number, (person, is_crowd) in enumerate([(7, 0), (300, 0), (8, 1)]):
        ids = np.full((60, 80), 1000)
        ids[:, :40] = person
        Image.new("RGB", (80, 60), COLOURS[person]).save(folder / "images" / f"{number}.jpg")
        planes = np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=-1).astype(np.uint8)
        Image.fromarray(planes).save(folder / "panoptic" / f"{number}.png")
        index["images"].append({"id": number, "file_name": f"{number}.jpg"})
        infos = [{"id": person, "category_id": 5, "iscrowd": is_crowd}, {"id": 1000, "category_id": 9, "iscrowd": 0}]
        index["annotations"].append({"image_id": number, "file_name": f"{number}.png", "segments_info": infos})
    (folder / "panoptic.json").write_text(json.dumps(index))
    return folder


def test_each_half_keeps_its_person_and_the_grass_of_both_is_one(folder: Path, tmp_path: Path) -> None:
    code = pairs.main(["--coco-panoptic", str(folder), "--category", "person", "--out", str(tmp_path / "pairs")])

    assert code == 0
    dataset = read_dataset(tmp_path / "pairs")
    [photo] = dataset.photos  # the crowd is no person that could be told apart
    truth = truth_of(photo)
    image = np.asarray(Image.open(photo.image))
    assert image.shape[:2] == truth.ids.shape == (pairs.HEIGHT, 2 * pairs.HEIGHT * 80 // 60)
    labels = {region.id: dataset.names[region.label] for region in truth.regions}
    assert sorted(labels.values()) == ["grass-merged", "person", "person"]
    quarters = [np.unique(part).tolist() for part in np.split(truth.ids, 4, axis=1)]
    assert [labels[one] for [one] in quarters] == ["person", "grass-merged", "person", "grass-merged"]
    assert quarters[0] != quarters[2]
    assert {tuple(np.round(half.mean((0, 1)), -1)) for half in np.split(image, 2, axis=1)} == {
        (200, 30, 30),
        (30, 30, 200),
    }


@pytest.mark.parametrize(
    ("category", "reason"), [("zebra", "has no category zebra"), ("grass-merged", "Fewer than two photos")]
)
def test_what_is_not_shown_twice_is_refused_in_a_sentence(
    folder: Path, tmp_path: Path, category: str, reason: str
) -> None:
    arguments = ["--coco-panoptic", str(folder), "--category", category, "--least", "0.7", "--out", str(tmp_path)]

    with pytest.raises(SystemExit, match=reason):
        pairs.main(arguments)
