"""The recipe of the embedded model runs, and what it does can be done again."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.support.images import astronaut, cat
from worker.training.augmentation import Mix
from worker.training.calibrate import main as calibrate
from worker.training.coco_panoptic import NO_THING, OTHER, VOID, Scene, Shelf, read_index, read_scene
from worker.training.ema import running_mean
from worker.training.network import begin_from, class_names, classes_of_queries, new_network, stuff_of
from worker.training.split import main as split
from worker.training.train import SURVEYED, Recipe, Stage, kept_queries, queries_of, train

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:You'd better set embed_dim"),
]
QUERIES_PER_CLASS = {"person": 3, "cat": 2, "grass-merged": 1}
TINY: dict[str, int] = {
    **dict.fromkeys(("hidden_dim", "feature_size", "mask_feature_size"), 32),
    **dict.fromkeys(("encoder_feedforward_dim", "dim_feedforward"), 32),
    "encoder_layers": 1,
    "decoder_layers": 3,
    "num_attention_heads": 4,
}
RECIPE = Recipe(steps=2, stages=(Stage(32, 2, 0.5), Stage(64, 2, 0.5)), warmup=1, tuned_blocks=1, save_every=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos with truth in COCO's layout: left half person, right half a toothbrush, which is not learned."""
    for kind in ("images", "panoptic"):
        (tmp_path / kind).mkdir()
    index: dict[str, list[Any]] = {
        "images": [],
        "annotations": [],
        "categories": [
            {"id": 1, "name": "person"},
            {"id": 90, "name": "toothbrush"},
            {"id": 134, "name": "no thing"},
        ],
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


def changed(folder: Path, **changes: Any) -> None:
    """Change the first photo's entry of the index."""
    index = json.loads((folder / "panoptic.json").read_text())
    index["annotations"][0] |= changes
    (folder / "panoptic.json").write_text(json.dumps(index))


def tiny_network(seed: int, slots: dict[str, int] = QUERIES_PER_CLASS) -> Any:
    return new_network(slots, seed, **TINY)


def mix_of(scenes: Sequence[Scene]) -> Mix:
    return Mix(scenes, (), np.array([True, True, False]), paste=0.5)


def trained(network: Any, scenes: Sequence[Scene], out: Path, recipe: Recipe = RECIPE, *, resume: bool = False) -> Any:
    train(network, mix_of(scenes), recipe, out, device=torch.device("cpu"), resume=resume)
    return load_file(out / "model.safetensors")


def test_truth_is_read_as_what_each_region_is(folder: Path) -> None:
    scene = read_scene(read_index(folder, list(QUERIES_PER_CLASS))[1])

    left, right = scene.regions[:, :200], scene.regions[:, 240:]
    assert scene.image.size == (451, 300)
    assert (scene.kinds[left] == 0).all()
    assert (scene.kinds[right] == OTHER).all()
    assert scene.kinds[0] == VOID
    assert scene.certain.all()


def test_partial_truth_says_what_is_certain_and_where_no_thing_is(folder: Path) -> None:
    segments = [
        {"id": 7 + 256, "category_id": 134},
        {"id": 2 * 65536, "category_id": 1, "iscrowd": 1},
    ]
    changed(folder, certain=[90, 1], segments_info=segments)

    scene = read_scene(read_index(folder, list(QUERIES_PER_CLASS))[0])

    assert scene.kinds.tolist() == [VOID, NO_THING, 0]
    assert scene.crowds.tolist() == [False, False, True]
    assert scene.certain.tolist() == [True, False, False]
    assert (scene.sure == 255).all()


def test_a_grey_picture_says_how_sure_the_truth_is(folder: Path) -> None:
    (folder / "confidence").mkdir()
    for name in ("1", "2"):
        Image.new("L", (10, 10), 90).save(folder / "confidence" / f"{name}.png")

    scene = read_scene(read_index(folder, list(QUERIES_PER_CLASS))[0])

    assert scene.sure.shape == scene.regions.shape
    assert (scene.sure == 90).all()


def test_the_same_seed_gives_the_same_weights_and_another_one_others(folder: Path, tmp_path: Path) -> None:
    scenes = Shelf(read_index(folder, list(QUERIES_PER_CLASS)))
    recipe = Recipe(**{**vars_of(RECIPE), "steps": 1, "seed": 1})

    first, again = (trained(tiny_network(0), scenes, tmp_path / name) for name in ("first", "again"))
    other = trained(tiny_network(0), scenes, tmp_path / "other", recipe)

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def vars_of(recipe: Recipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}


class PowerCut(Exception):
    """The machine went away."""


class GoneAfter(Sequence[Scene]):
    """Scenes of which only so many can be had."""

    def __init__(self, scenes: Sequence[Scene], most: int) -> None:
        self.scenes, self.left = scenes, most

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, place: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise PowerCut
        return self.scenes[place]


def test_a_run_that_was_cut_off_ends_with_the_weights_of_one_that_was_not(folder: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    scenes = Shelf(read_index(folder, list(QUERIES_PER_CLASS)))
    # A step takes its two photos, and the next one is drawn while it is learned.
    recipe = Recipe(**{**vars_of(RECIPE), "steps": 4, "paste": 0.0})
    mix = Mix(scenes, (), np.array([True, True, False]), paste=0.0, mosaic=0.0)
    cut_off = replace(mix, annotated=GoneAfter(scenes, SURVEYED + 5))

    train(tiny_network(0), mix, recipe, whole, device=torch.device("cpu"))
    with pytest.raises(PowerCut):
        train(tiny_network(0), cut_off, recipe, parts, device=torch.device("cpu"))
    train(tiny_network(1), mix, recipe, parts, device=torch.device("cpu"), resume=True)

    expected, got = load_file(whole / "model.safetensors"), load_file(parts / "model.safetensors")
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert (parts / "curve.jsonl").read_text() == (whole / "curve.jsonl").read_text()
    assert len((parts / "curve.jsonl").read_text().splitlines()) == 4
    assert (parts / "config.json").read_text() == (whole / "config.json").read_text()


def test_a_run_that_goes_on_with_other_photos_keeps_the_homes_of_its_queries(folder: Path, tmp_path: Path) -> None:
    scenes = Shelf(read_index(folder, list(QUERIES_PER_CLASS)))
    trained(tiny_network(0), [scenes[0]], tmp_path / "out", replace(RECIPE, steps=1))
    before = kept_queries(tmp_path / "out")
    turned = [
        replace(scene, regions=scene.regions[:, ::-1], kinds=np.array([VOID, OTHER, 0], np.int16)) for scene in scenes
    ]

    trained(tiny_network(0), turned, tmp_path / "out", replace(RECIPE, seed=1), resume=True)

    assert torch.equal(kept_queries(tmp_path / "out").anchors, before.anchors)
    others = queries_of(mix_of(turned), replace(RECIPE, seed=1), tiny_network(0).config)
    assert not torch.equal(others.anchors, before.anchors), "others would have been found"


def test_only_the_last_blocks_of_the_backbone_learn(folder: Path, tmp_path: Path) -> None:
    network = tiny_network(0)
    before = {name: value.half() for name, value in network.state_dict().items() if "encoder.net" in name}

    after = trained(network, Shelf(read_index(folder, list(QUERIES_PER_CLASS))), tmp_path / "out")

    moved = {name for name, value in before.items() if not torch.equal(value, after[name].to(value.dtype))}
    assert moved
    assert all("_blocks.20." in name for name in moved)
    assert not any("running" in name for name in moved)


def test_weights_begin_from_others_by_the_names_of_their_classes(tmp_path: Path, folder: Path) -> None:
    before = trained(tiny_network(0, {"cat": 1, "dog": 1}), Shelf(read_index(folder, ["cat", "dog"])), tmp_path / "old")
    network = tiny_network(1)
    fresh = network.class_predictor.weight[0].clone()

    begin_from(network, tmp_path / "old")

    features = network.model.transformer_module.queries_features.weight
    old = before["model.transformer_module.queries_features.weight"].float()
    assert class_names(network.config) == list(QUERIES_PER_CLASS)
    assert classes_of_queries(network.config) == [0, 0, 0, 1, 1, 2]
    assert stuff_of(network.config).tolist() == [False, False, True]
    assert torch.equal(features[3], old[0])
    assert not torch.equal(features[4], old[0])
    assert torch.equal(network.class_predictor.weight[1], before["class_predictor.weight"][0].float())
    assert torch.equal(network.class_predictor.weight[3], before["class_predictor.weight"][2].float())
    assert torch.equal(network.class_predictor.weight[0], fresh)


def test_pictures_grow_from_stage_to_stage_and_the_last_stage_goes_on_to_the_end() -> None:
    recipe = Recipe(steps=10, stages=(Stage.parsed("128x32:0.5"), Stage.parsed("256x8:0.3")))

    sides = [recipe.stage_at(step).side for step in range(10)]

    assert sides == [128] * 5 + [256] * 5
    assert (recipe.stage_at(0).images, recipe.stage_at(9).images) == (32, 8)
    assert [Stage.parsed(str(stage)) for stage in recipe.stages] == list(recipe.stages)


def test_the_mean_of_the_weights_follows_them() -> None:
    mean = running_mean({"a": torch.zeros(1)}, decay=0.5)

    for step in range(100):
        mean.follow({"a": torch.ones(1)}, step)

    assert mean.weights["a"].item() == pytest.approx(1, abs=1e-6)


def test_photos_are_either_learned_or_held_out(folder: Path, tmp_path: Path) -> None:
    split(["--coco-panoptic", str(folder), "--held-out", "1", "--out", str(tmp_path / "parts")])

    parts = [read_index(tmp_path / "parts" / part, list(QUERIES_PER_CLASS)) for part in ("learned", "held_out")]

    assert sorted(photo.image.name for part in parts for photo in part) == ["1.jpg", "2.jpg"]
    assert all(len(part) == 1 for part in parts)
    assert read_scene(parts[0][0]).image.size[0] > 100


def test_a_calibrated_model_is_surer_and_says_nothing_less_often(folder: Path, tmp_path: Path) -> None:
    before = trained(tiny_network(0), Shelf(read_index(folder, list(QUERIES_PER_CLASS))), tmp_path / "old")

    calibrate(
        ["--model", str(tmp_path / "old"), "--factor", "2", "--less-nothing", "0.5", "--out", str(tmp_path / "new")]
    )

    after = load_file(tmp_path / "new" / "model.safetensors")
    assert after.pop("class_predictor.bias").dtype == torch.float16
    weight = after.pop("class_predictor.weight")
    assert torch.equal(weight, 2 * before["class_predictor.weight"])
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert (tmp_path / "new" / "config.json").read_text() == (tmp_path / "old" / "config.json").read_text()
    features = torch.randn(5, weight.shape[1])
    old, new = (logits(file, features) for file in (tmp_path / "old", tmp_path / "new"))
    assert torch.allclose(new[:, :-1], 2 * old[:, :-1], atol=0.01)
    assert torch.allclose(new[:, -1], 2 * old[:, -1] - 0.5, atol=0.01)


def logits(model: Path, features: torch.Tensor) -> torch.Tensor:
    tensors = load_file(model / "model.safetensors")
    weight, bias = (tensors[f"class_predictor.{name}"].float() for name in ("weight", "bias"))
    return features @ weight.T + bias
