"""The embedded model's files fit together, and its recipe runs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.photos import astronaut, cat
from worker.embedded_model import FOLDER
from worker.embedded_model.coco_panoptic import OTHER, Photo, class_map, draw, read_index
from worker.embedded_model.efficientnet_lite import EfficientNetLiteBackbone, EfficientNetLiteConfig
from worker.embedded_model.losses import class_loss, mask_loss, truth_of
from worker.embedded_model.train import Recipe, class_names, new_network, train


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine torch's threads spend most of their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos with truth in COCO's layout: left half person, right half something that is not learned."""
    for kind in ("images", "panoptic"):
        (tmp_path / kind).mkdir()
    index: dict[str, list[object]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}],
    }
    for number, photo in enumerate((astronaut(), cat()), start=1):
        photo.save(tmp_path / "images" / f"{number}.jpg")
        truth = np.zeros((photo.height, photo.width, 3), np.uint8)
        truth[:, : photo.width // 2] = (7, 1, 0)
        truth[:, photo.width // 2 :] = (0, 0, 2)
        Image.fromarray(truth).save(tmp_path / "panoptic" / f"{number}.png")
        segments = [{"id": 7 + 256, "category_id": 1}, {"id": 2 * 65536, "category_id": 90}]
        index["images"].append({"id": number, "file_name": f"{number}.jpg"})
        index["annotations"].append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    (tmp_path / "panoptic.json").write_text(json.dumps(index))
    return tmp_path


def test_the_backbone_has_maps_at_the_strides_that_mask2former_expects() -> None:
    backbone = EfficientNetLiteBackbone(EfficientNetLiteConfig()).eval()

    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 256, 192)).feature_maps

    assert [tuple(one.shape[1:]) for one in maps] == [(24, 64, 48), (48, 32, 24), (120, 16, 12), (352, 8, 6)]
    assert backbone.channels == [24, 48, 120, 352]


def test_truth_is_read_as_our_class_numbers(folder: Path) -> None:
    photos = read_index(folder, ["cat", "person"])

    classes = class_map(photos[0])

    assert [photo.image.name for photo in photos] == ["1.jpg", "2.jpg"]
    assert (classes[:, :256] == 1).all()
    assert (classes[:, 256:] == OTHER).all()


def test_a_drawn_example_depends_on_its_seed_alone(folder: Path) -> None:
    photo = read_index(folder, ["person"])[0]

    first, again, other = (draw(photo, 64, np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert first.image.tobytes() == again.image.tobytes()
    assert np.array_equal(first.classes, again.classes)
    assert first.image.tobytes() != other.image.tobytes()


def test_a_perfect_answer_costs_next_to_nothing() -> None:
    class_maps = torch.full((1, 8, 8), OTHER, dtype=torch.uint8)
    class_maps[:, :, :4] = 1
    truth = truth_of(class_maps, 2, stride=4)
    classes = torch.tensor([[[-20.0, -20, 20], [-20, 20, -20]]])
    masks = torch.where(truth.masks > 0.5, 20.0, -20.0)

    costs = [class_loss(classes, truth.present).item(), mask_loss(masks, truth).item()]

    assert truth.present.tolist() == [[False, True]]
    assert max(costs) < 1e-3
    assert class_loss(-classes, truth.present).item() > 10
    assert mask_loss(-masks, truth).item() > 10


def test_a_photo_with_none_of_the_classes_has_no_mask_loss() -> None:
    truth = truth_of(torch.full((1, 8, 8), OTHER, dtype=torch.uint8), 2, stride=4)

    assert mask_loss(torch.randn(1, 2, 2, 2), truth).item() == 0


class PowerCut(Exception):
    """The machine went away."""


class GoneAfterOne(Sequence[Photo]):
    """Photos of which only one can be had."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        self.photos = photos
        self.asked = 0

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, place: Any) -> Any:
        self.asked += 1
        if self.asked > 1:
            raise PowerCut
        return self.photos[place]


@pytest.mark.filterwarnings("ignore:You'd better set embed_dim")
def test_a_run_that_was_cut_off_ends_with_the_weights_of_one_that_was_not(folder: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    photos = read_index(folder, class_names(new_network(0).config))
    recipe = Recipe(steps=2, images=1, save_every=1)

    train(new_network(0), photos, recipe, whole)
    with pytest.raises(PowerCut):
        train(new_network(0), GoneAfterOne(photos), recipe, parts)
    train(new_network(1), photos, recipe, parts, resume=True)

    expected, got = load_file(whole / "model.safetensors"), load_file(parts / "model.safetensors")
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert set(got) == set(load_file(FOLDER / "model.safetensors"))
    assert (parts / "curve.jsonl").read_text() == (whole / "curve.jsonl").read_text()
    assert (parts / "config.json").read_text() == (FOLDER / "config.json").read_text()
