"""Pairs of images: both halves keep their things, and stuff of both halves is merged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.evaluation import pairs
from tests.evaluation.quality_data import read_dataset, read_truth

COLOURS = {7: (200, 30, 30), 8: (30, 200, 30), 300: (30, 30, 200)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images with a person in the left half and grass in the right; in the last one the person is a crowd."""
    folder = tmp_path / "dataset"
    for name in ("images", "panoptic"):
        (folder / name).mkdir(parents=True)
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


def test_each_half_keeps_its_person_and_their_grass_is_merged(folder: Path, tmp_path: Path) -> None:
    code = pairs.main(["--coco-panoptic", str(folder), "--category", "person", "--out", str(tmp_path / "pairs")])

    assert code == 0
    dataset = read_dataset(tmp_path / "pairs")
    [record] = dataset.images  # a crowd is no single person
    truth = read_truth(record)
    image = np.asarray(Image.open(record.image))
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
    ("category", "reason"), [("zebra", "has no category zebra"), ("grass-merged", "Fewer than two images")]
)
def test_a_category_that_two_images_do_not_show_is_refused(
    folder: Path, tmp_path: Path, category: str, reason: str
) -> None:
    arguments = ["--coco-panoptic", str(folder), "--category", category, "--min-share", "0.7", "--out", str(tmp_path)]

    with pytest.raises(SystemExit, match=reason):
        pairs.main(arguments)
