"""The training recipe of the embedded model runs, resumes, and is reproducible."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.support.images import astronaut, cat
from worker.training.calibrate import main as calibrate
from worker.training.coco_panoptic import NO_THING, OTHER, VOID, Scene, SceneCache, read_index, read_scene
from worker.training.ema import MovingAverage
from worker.training.network import build_network, class_names, get_query_classes, get_stuff_mask, transfer_weights
from worker.training.recipe import Recipe, Stage
from worker.training.sampler import ExampleSampler
from worker.training.split import main as split
from worker.training.state import load_queries
from worker.training.train import SURVEY_EXAMPLES, build_batch, build_queries, mirror_back, train

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
    """Two images with ground truth in COCO's layout: left a person, right a toothbrush, which is no trained class."""
    for name in ("images", "panoptic"):
        (tmp_path / name).mkdir()
    index: dict[str, list[Any]] = {
        "images": [],
        "annotations": [],
        "categories": [
            {"id": 1, "name": "person"},
            {"id": 90, "name": "toothbrush"},
            {"id": 134, "name": "no thing"},
        ],
    }
    for number, image in enumerate((astronaut(), cat()), start=1):
        image.save(tmp_path / "images" / f"{number}.jpg")
        truth = np.zeros((image.height, image.width, 3), np.uint8)
        truth[:, : image.width // 2] = (7, 1, 0)
        truth[:, image.width // 2 :] = (0, 0, 2)
        Image.fromarray(truth).save(tmp_path / "panoptic" / f"{number}.png")
        segments = [{"id": 7 + 256, "category_id": 1}, {"id": 2 * 65536, "category_id": 90}]
        index["images"].append({"id": number, "file_name": f"{number}.jpg"})
        index["annotations"].append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    (tmp_path / "panoptic.json").write_text(json.dumps(index))
    return tmp_path


def change_first_annotation(folder: Path, **changes: Any) -> None:
    """Change the annotation of the first image in the index."""
    index = json.loads((folder / "panoptic.json").read_text())
    index["annotations"][0] |= changes
    (folder / "panoptic.json").write_text(json.dumps(index))


def tiny_network(seed: int, queries_per_class: dict[str, int] = QUERIES_PER_CLASS) -> Any:
    return build_network(queries_per_class, seed, **TINY)


def make_sampler(scenes: Sequence[Scene]) -> ExampleSampler:
    return ExampleSampler(scenes, (), np.array([True, True, False]), paste_probability=0.5)


def run_training(
    network: Any, scenes: Sequence[Scene], out: Path, recipe: Recipe = RECIPE, *, resume: bool = False
) -> Any:
    """Train and return the saved weights by name."""
    train(network, make_sampler(scenes), recipe, out, device=torch.device("cpu"), resume=resume)
    return load_file(out / "model.safetensors")


def test_truth_is_read_as_regions_with_labels(folder: Path) -> None:
    scene = read_scene(read_index(folder, list(QUERIES_PER_CLASS))[1])

    left, right = scene.regions[:, :200], scene.regions[:, 240:]
    assert scene.image.size == (451, 300)
    assert (scene.labels[left] == 0).all()
    assert (scene.labels[right] == OTHER).all()
    assert scene.labels[0] == VOID
    assert scene.is_exhaustive.all()


def test_partial_truth_has_exhaustive_classes_and_no_thing_regions(folder: Path) -> None:
    segments = [
        {"id": 7 + 256, "category_id": 134},
        {"id": 2 * 65536, "category_id": 1, "iscrowd": 1},
    ]
    change_first_annotation(folder, certain=[90, 1], segments_info=segments)

    scene = read_scene(read_index(folder, list(QUERIES_PER_CLASS))[0])

    assert scene.labels.tolist() == [VOID, NO_THING, 0]
    assert scene.is_crowd.tolist() == [False, False, True]
    assert scene.is_exhaustive.tolist() == [True, False, False]
    assert (scene.confidence == 255).all()


def test_a_grey_image_gives_the_confidence_of_the_truth(folder: Path) -> None:
    (folder / "confidence").mkdir()
    for name in ("1", "2"):
        Image.new("L", (10, 10), 90).save(folder / "confidence" / f"{name}.png")

    scene = read_scene(read_index(folder, list(QUERIES_PER_CLASS))[0])

    assert scene.confidence.shape == scene.regions.shape
    assert (scene.confidence == 90).all()


def test_the_same_seed_gives_the_same_weights_and_another_seed_different_ones(folder: Path, tmp_path: Path) -> None:
    scenes = SceneCache(read_index(folder, list(QUERIES_PER_CLASS)))
    recipe = replace(RECIPE, steps=1, seed=1)

    first, again = (run_training(tiny_network(0), scenes, tmp_path / name) for name in ("first", "again"))
    other = run_training(tiny_network(0), scenes, tmp_path / "other", recipe)

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


class Interruption(Exception):
    """The process was killed."""


class FailingScenes(Sequence[Scene]):
    """Scenes that raise Interruption after a number of reads."""

    def __init__(self, scenes: Sequence[Scene], reads: int) -> None:
        self.scenes, self.reads = scenes, reads

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, place: Any) -> Any:
        self.reads -= 1
        if self.reads < 0:
            raise Interruption
        return self.scenes[place]


def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    scenes = SceneCache(read_index(folder, list(QUERIES_PER_CLASS)))
    # A step reads two images, and the images of the next step are read during it.
    recipe = replace(RECIPE, steps=4, paste=0.0)
    sampler = ExampleSampler(scenes, (), np.array([True, True, False]), paste_probability=0.0, mosaic_probability=0.0)
    failing = replace(sampler, annotated=FailingScenes(scenes, SURVEY_EXAMPLES + 5))

    train(tiny_network(0), sampler, recipe, whole, device=torch.device("cpu"))
    with pytest.raises(Interruption):
        train(tiny_network(0), failing, recipe, parts, device=torch.device("cpu"))
    train(tiny_network(1), sampler, recipe, parts, device=torch.device("cpu"), resume=True)

    expected, got = load_file(whole / "model.safetensors"), load_file(parts / "model.safetensors")
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert (parts / "curve.jsonl").read_text() == (whole / "curve.jsonl").read_text()
    assert len((parts / "curve.jsonl").read_text().splitlines()) == 4
    assert (parts / "config.json").read_text() == (whole / "config.json").read_text()


def test_a_run_without_a_checkpoint_resumes_from_the_beginning(folder: Path, tmp_path: Path) -> None:
    scenes = SceneCache(read_index(folder, list(QUERIES_PER_CLASS)))

    first = run_training(tiny_network(0), scenes, tmp_path / "first")
    resumed = run_training(tiny_network(0), scenes, tmp_path / "resumed", resume=True)

    assert all(torch.equal(first[name], resumed[name]) for name in first)


def test_the_folder_of_a_run_has_a_model_during_the_run(folder: Path, tmp_path: Path) -> None:
    scenes = SceneCache(read_index(folder, list(QUERIES_PER_CLASS)))
    sampler = replace(make_sampler(scenes), paste_probability=0.0, mosaic_probability=0.0)
    failing = replace(sampler, annotated=FailingScenes(scenes, SURVEY_EXAMPLES + 5))

    with pytest.raises(Interruption):
        train(tiny_network(0), failing, replace(RECIPE, steps=4), tmp_path, device=torch.device("cpu"))

    assert load_file(tmp_path / "model.safetensors")
    assert not list(tmp_path.glob("next.*"))


def test_the_views_of_a_batch_show_the_same_examples_in_other_variations(folder: Path) -> None:
    sampler = make_sampler(SceneCache(read_index(folder, list(QUERIES_PER_CLASS))))
    recipe = replace(RECIPE, stages=(Stage(64, 4, 1.0),), views=2)

    plain, mirrored = (
        build_batch(sampler, replace(recipe, mirror=mirror), tiny_network(0).config, 0) for mirror in (0.0, 1.0)
    )

    first, second = plain.pixels.split(2)
    assert (len(plain.truths), plain.views, plain.is_mirrored, mirrored.is_mirrored) == (2, 2, False, True)
    assert torch.equal(mirrored.pixels, torch.cat([first, second.flip(-1)]))
    assert not torch.equal(first, second)
    assert (first - second).abs().mean() < 0.3 * (first - first.flip(0)).abs().mean()


def test_masks_of_mirrored_views_are_mirrored_back() -> None:
    masks = torch.rand(4, 3, 8, 8)
    seen = torch.cat([masks[:2], masks[:2].flip(-1)])
    output = SimpleNamespace(masks_queries_logits=seen, auxiliary_logits=[{"masks_queries_logits": seen.clone()}])

    mirror_back(output, 2)

    for restored in (output.masks_queries_logits, output.auxiliary_logits[0]["masks_queries_logits"]):
        assert torch.equal(restored, torch.cat([masks[:2], masks[:2]]))


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_a_run_trains_on_several_views(folder: Path, tmp_path: Path, mirror: float) -> None:
    scenes = SceneCache(read_index(folder, list(QUERIES_PER_CLASS)))

    run_training(tiny_network(0), scenes, tmp_path, replace(RECIPE, views=2, mirror=mirror))

    rows = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(np.isfinite(value) for row in rows for value in row.values())


def test_a_run_resumed_with_other_images_keeps_the_anchors_of_its_queries(folder: Path, tmp_path: Path) -> None:
    scenes = SceneCache(read_index(folder, list(QUERIES_PER_CLASS)))
    run_training(tiny_network(0), [scenes[0]], tmp_path / "out", replace(RECIPE, steps=1))
    before = load_queries(tmp_path / "out")
    turned = [
        replace(scene, regions=scene.regions[:, ::-1], labels=np.array([VOID, OTHER, 0], np.int16)) for scene in scenes
    ]

    run_training(tiny_network(0), turned, tmp_path / "out", replace(RECIPE, seed=1), resume=True)

    assert torch.equal(load_queries(tmp_path / "out").anchors, before.anchors)
    others = build_queries(make_sampler(turned), replace(RECIPE, seed=1), tiny_network(0).config)
    assert not torch.equal(others.anchors, before.anchors), "these images alone would give other anchors"


def test_only_the_last_blocks_of_the_backbone_are_trained(folder: Path, tmp_path: Path) -> None:
    network = tiny_network(0)
    before = {name: value.half() for name, value in network.state_dict().items() if "encoder.net" in name}

    after = run_training(network, SceneCache(read_index(folder, list(QUERIES_PER_CLASS))), tmp_path / "out")

    changed = {name for name, value in before.items() if not torch.equal(value, after[name].to(value.dtype))}
    assert changed
    assert all("_blocks.20." in name for name in changed)
    assert not any("running" in name for name in changed)


def test_weights_are_transferred_by_the_names_of_the_classes(tmp_path: Path, folder: Path) -> None:
    before = run_training(
        tiny_network(0, {"cat": 1, "dog": 1}), SceneCache(read_index(folder, ["cat", "dog"])), tmp_path / "old"
    )
    network = tiny_network(1)
    fresh = network.class_predictor.weight[0].clone()

    transfer_weights(network, tmp_path / "old")

    features = network.model.transformer_module.queries_features.weight
    old = before["model.transformer_module.queries_features.weight"].float()
    assert class_names(network.config) == list(QUERIES_PER_CLASS)
    assert get_query_classes(network.config) == [0, 0, 0, 1, 1, 2]
    assert get_stuff_mask(network.config).tolist() == [False, False, True]
    assert torch.equal(features[3], old[0])
    assert not torch.equal(features[4], old[0])
    assert torch.equal(network.class_predictor.weight[1], before["class_predictor.weight"][0].float())
    assert torch.equal(network.class_predictor.weight[3], before["class_predictor.weight"][2].float())
    assert torch.equal(network.class_predictor.weight[0], fresh)


def test_images_grow_from_stage_to_stage_and_the_last_stage_lasts_to_the_end() -> None:
    recipe = Recipe(steps=10, stages=(Stage.parse("128x32:0.5"), Stage.parse("256x8:0.3")))

    sides = [recipe.stage_at(step).side for step in range(10)]

    assert sides == [128] * 5 + [256] * 5
    assert (recipe.stage_at(0).batch, recipe.stage_at(9).batch) == (32, 8)
    assert [Stage.parse(str(stage)) for stage in recipe.stages] == list(recipe.stages)


def test_the_moving_average_converges_to_constant_weights() -> None:
    average = MovingAverage.start({"a": torch.zeros(1)}, decay=0.5)

    for step in range(100):
        average.update({"a": torch.ones(1)}, step)

    assert average.weights["a"].item() == pytest.approx(1, abs=1e-6)


def test_images_are_either_trained_on_or_held_out(folder: Path, tmp_path: Path) -> None:
    split(["--coco-panoptic", str(folder), "--held-out", "1", "--out", str(tmp_path / "parts")])

    parts = [read_index(tmp_path / "parts" / part, list(QUERIES_PER_CLASS)) for part in ("learned", "held_out")]

    assert sorted(record.image.name for part in parts for record in part) == ["1.jpg", "2.jpg"]
    assert all(len(part) == 1 for part in parts)
    assert read_scene(parts[0][0]).image.size[0] > 100


def test_calibration_scales_the_logits_and_lowers_that_of_no_object(folder: Path, tmp_path: Path) -> None:
    before = run_training(tiny_network(0), SceneCache(read_index(folder, list(QUERIES_PER_CLASS))), tmp_path / "old")

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
