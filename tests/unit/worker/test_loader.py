"""The values of MASKMILL_MODEL, and the error message if a model cannot be loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from shared.errors import ModelUnusable
from worker.embedded_model import FOLDER
from worker.engine.execution_plan import ExecutionOptions
from worker.engine.loader import load_segmenter, silence_transformers
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter
from worker.segmenter import Segmenter

CLOSED_PORT_URL = "http://127.0.0.1:9"


def copy_embedded(into: Path) -> Path:
    into.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        shutil.copy(FOLDER / name, into)
    return into


def download(source: str, into: Path) -> None:
    """Fake bucket: it holds the embedded model under s3://models/small, and nothing else."""
    if source == "s3://models/small":
        copy_embedded(into)


def load(model: str, cache: Path, **options: Any) -> Segmenter:
    """Load with the exact forward pass, which needs no comparison."""
    defaults = {"public_id": "us/small", "device": "cpu", "cache": cache, "download": download}
    return load_segmenter(model, **{**defaults, "options": ExecutionOptions("exact"), **options})


def test_the_embedded_model_loads_in_float32(tmp_path: Path) -> None:
    segmenter = load("embedded", tmp_path)

    assert isinstance(segmenter, Mask2FormerSegmenter)
    assert (segmenter.model, segmenter.device) == ("us/small", "cpu")
    assert segmenter._network.dtype == torch.float32  # type: ignore[attr-defined]


def test_a_folder_and_a_bucket_give_the_same_model_with_the_same_revision(tmp_path: Path) -> None:
    folder = copy_embedded(tmp_path / "mine")

    revisions = {load(model, tmp_path / "cache").revision for model in ("embedded", str(folder), "s3://models/small")}

    assert len(revisions) == 1
    assert len(revisions.pop()) == 12


def test_the_revision_changes_with_the_configuration(tmp_path: Path) -> None:
    folder = copy_embedded(tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["0"] = "human being"
    (folder / "config.json").write_text(json.dumps(config))

    assert load(str(folder), tmp_path).revision != load("embedded", tmp_path).revision


def test_the_device_auto_is_cuda_if_available_and_the_cpu_otherwise(tmp_path: Path) -> None:
    segmenter = load("embedded", tmp_path, device="auto")

    assert segmenter.device == ("cuda:0" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["cuda:77", "abacus"])
def test_an_unknown_device_is_named_in_the_error(tmp_path: Path, device: str) -> None:
    assert f"The device {device} cannot be used: " in load_error("embedded", tmp_path, device=device)


def load_error(model: str, cache: Path, **options: Any) -> str:
    with pytest.raises(ModelUnusable) as caught:
        load(model, cache, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_a_missing_folder_is_named_in_the_error(tmp_path: Path) -> None:
    assert load_error(f"{tmp_path}/none", tmp_path) == f"There is no folder {tmp_path}/none."


def test_a_folder_without_a_configuration_is_named_in_the_error(tmp_path: Path) -> None:
    assert load_error(str(tmp_path), tmp_path) == f"The folder {tmp_path} holds no config.json."


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    folder = copy_embedded(tmp_path / "mine")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    assert "holds no safetensors" in load_error(str(folder), tmp_path)


def test_an_empty_prefix_is_named_in_the_error(tmp_path: Path) -> None:
    assert load_error("s3://models/none", tmp_path) == "There is nothing under s3://models/none."


def test_an_unreachable_hub_is_reported_with_the_alternatives(tmp_path: Path) -> None:
    message = load_error("nowhere/no-such-model", tmp_path, hub_endpoint=CLOSED_PORT_URL)

    assert message.startswith("The Hub could not be reached to fetch nowhere/no-such-model.")
    assert "Set MASKMILL_MODEL to a local folder or to `embedded`." in message


def test_a_model_for_another_task_is_rejected_with_its_architecture(tmp_path: Path) -> None:
    silence_transformers()
    config = transformers.ViTConfig(
        image_size=16, patch_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)

    message = load_error(str(tmp_path), tmp_path)

    assert message == "us/small is not an image-segmentation model, it is: ViTForImageClassification."


def test_an_unknown_model_type_is_rejected_in_one_line(tmp_path: Path) -> None:
    folder = copy_embedded(tmp_path / "mine")
    (folder / "config.json").write_text('{"model_type": "abacus"}')

    assert load_error(str(folder), tmp_path).startswith(f"The model {folder} could not be loaded: ")


def test_truncated_weights_are_rejected_in_one_line(tmp_path: Path) -> None:
    folder = copy_embedded(tmp_path / "mine")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])

    assert load_error(str(folder), tmp_path).startswith(f"The model {folder} could not be loaded: ")


@pytest.mark.parametrize(("setting", "value"), [("decoder_layers", 9), ("hidden_dim", 96)])
def test_weights_that_do_not_match_the_configuration_are_rejected(tmp_path: Path, setting: str, value: int) -> None:
    folder = copy_embedded(tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, setting: value}))

    load_error(str(folder), tmp_path)
