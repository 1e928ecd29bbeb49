"""Training of the embedded model.

    python -m worker.training.train --coco-panoptic DIR --labelled DIR --out DIR

It needs images with COCO's panoptic ground truth and the extra `train`, which provides the backbone's ImageNet weights;
images with partial ground truth (see pseudo_labels.py) improve the model.  The same seed gives the same weights on the
same machine with the same number of threads; an interrupted run resumes with --resume.
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
from worker.training.augmentation import ExampleSampler, sampling_weights
from worker.training.classes import QUERIES_PER_CLASS
from worker.training.coco_panoptic import SceneCache, read_index
from worker.training.ema import MovingAverage
from worker.training.losses import Loss, compute_loss
from worker.training.matching import Queries, Truth, build_truth, compute_anchors, match_batch, thing_locations
from worker.training.network import (
    build_network,
    class_names,
    find_backbone_weights,
    get_query_classes,
    get_stuff_mask,
    load_backbone,
    save_model,
    transfer_weights,
)

log = logging.getLogger(__name__)

# Gradients are clipped to this norm; larger ones destabilize an untrained decoder.
MAX_GRADIENT_NORM: Final = 1.0
# Number of examples from which the anchors of the queries are computed.
SURVEY_EXAMPLES: Final = 400
# Parameters of fewer axes (biases, normalization) have no weight decay.
MIN_DECAYED_AXES: Final = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training.

    side: of the images, in pixels.
    batch: images of a step.
    share: of all steps.
    """

    side: int
    batch: int
    share: float

    @classmethod
    def parse(cls, text: str) -> "Stage":
        """Parse SIDExIMAGES:SHARE, the output of str()."""
        sizes, _, share = text.partition(":")
        side, _, batch = sizes.partition("x")
        return cls(int(side), int(batch), float(share))

    def __str__(self) -> str:
        return f"{self.side}x{self.batch}:{self.share}"


DEFAULT_STAGES: Final = (Stage(128, 32, 0.42), Stage(192, 16, 0.33), Stage(256, 8, 0.12), Stage(320, 6, 0.13))


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters; each is an option of the command line.

    steps: number of batches.
    stages: large batches of small images first, since most is learned from those.
    rate: learning rate; it rises for `warmup` steps, then falls to 0 along a cosine.
    tuned_blocks: number of the backbone's last blocks that are trained, at `backbone_rate` times the rate; the others
        are frozen.
    anchoring: initial cost of a unit of distance between a region and its query's anchor; it falls linearly to 0 in
        the first `anchored_share` of the steps.
    mean_decay: of the moving average of the weights.
    paste: probability that things are pasted into an example.
    mosaic: probability that an example is a mosaic.
    share: of the images with exhaustive ground truth in a batch.
    save_every: steps between checkpoints.
    """

    steps: int = 4200
    stages: tuple[Stage, ...] = DEFAULT_STAGES
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
        """Return the stage of a step; the last one lasts to the end."""
        ends = accumulate(stage.share * self.steps for stage in self.stages)
        return next((stage for stage, end in zip(self.stages, ends, strict=True) if step < end), self.stages[-1])

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step as a share of `rate`."""
        return min(1.0, (step + 1) / self.warmup) * (1 + cos(pi * step / self.steps)) / 2

    def anchoring_at(self, step: int) -> float:
        return self.anchoring * max(0.0, 1 - step / max(1.0, self.anchored_share * self.steps))


@dataclass(frozen=True, slots=True)
class Batch:
    """pixels: (B, 3, side, side) float32, normalized.  truths: B ground truths."""

    pixels: Tensor
    truths: tuple[Truth, ...]


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A network with everything that changes in training.

    parameters: the trained parameters of the network, by name.
    average: their moving average.
    stuff: (C,) bool.
    """

    network: Any
    parameters: Mapping[str, Tensor]
    optimizer: AdamW
    average: MovingAverage
    queries: Queries
    stuff: Tensor
    device: torch.device


def main(arguments: Sequence[str] | None = None) -> None:
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    chosen = {field.name: getattr(options, field.name) for field in fields(Recipe)}
    recipe = Recipe(**chosen | {"stages": tuple(options.stages)})
    network = build_network(QUERIES_PER_CLASS, recipe.seed)
    if options.start:
        transfer_weights(network, options.start)
    else:
        load_backbone(network, find_backbone_weights())
    names = class_names(network.config)
    annotated, labelled = (
        SceneCache([record for folder in folders for record in read_index(folder, names)])
        for folders in (options.coco_panoptic, options.labelled)
    )
    is_thing = ~get_stuff_mask(network.config).numpy()
    sampler = ExampleSampler(
        annotated,
        labelled,
        is_thing,
        annotated_share=recipe.share,
        paste_probability=recipe.paste,
        mosaic_probability=recipe.mosaic,
        annotated_weights=sampling_weights(annotated.records, is_thing),
        labelled_weights=sampling_weights(labelled.records, is_thing),
    )
    train(network, sampler, recipe, options.out, device=torch.device(options.device), resume=options.resume)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the embedded model.")
    parser.add_argument(
        "--coco-panoptic", type=Path, nargs="+", required=True, metavar="DIR", help="images/, panoptic/, panoptic.json"
    )
    parser.add_argument(
        "--labelled", type=Path, nargs="*", default=[], metavar="DIR", help="the same, with partial ground truth"
    )
    parser.add_argument(
        "--start", type=Path, metavar="DIR", help="initialize from this model, not from the backbone's weights alone"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for weights, curve and checkpoint")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="resume from the checkpoint in --out")
    parser.add_argument(
        "--stages",
        type=Stage.parse,
        nargs="+",
        default=DEFAULT_STAGES,
        metavar="SIDExIMAGES:SHARE",
        help="side and number of the images of a batch, and share of the steps "
        f"(default: {' '.join(map(str, DEFAULT_STAGES))})",
    )
    for field in fields(Recipe):
        if field.name == "stages":
            continue
        name, default = field.name.replace("_", "-"), field.default
        parser.add_argument(f"--{name}", type=type(default), default=default, help="default: %(default)s")
    return parser


def train(
    network: Any, sampler: ExampleSampler, recipe: Recipe, out: Path, *, device: torch.device, resume: bool = False
) -> None:
    """Train a network, and write weights, curve.jsonl and a checkpoint to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    queries = load_queries(out) if resume else build_queries(sampler, recipe, network.config)
    state = build_state(network.to(device), recipe, queries, device)
    first = restore_checkpoint(out, state) if resume else 0
    truncate_curve(out / "curve.jsonl", first)
    with (out / "curve.jsonl").open("a", buffering=1) as curve:
        for step, batch in enumerate(iterate_batches(sampler, recipe, network.config, first), start=first):
            loss = train_step(state, batch, recipe, step)
            curve.write(json.dumps(curve_row(step, loss)) + "\n")
            log.info("step %d of %d: loss %.3f", step + 1, recipe.steps, loss.total.item())
            if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                save_checkpoint(out, state, step + 1)
    save_model(network, state.average.weights, out)


def build_queries(sampler: ExampleSampler, recipe: Recipe, config: Any) -> Queries:
    """Return the queries of a network with anchors that are computed from a survey of training examples."""
    rng = np.random.default_rng(recipe.seed)
    examples = (sampler.draw_example(recipe.stages[0].side, rng) for _ in range(SURVEY_EXAMPLES))
    truths = [build_truth(example, stride=config.common_stride) for example in examples]
    single, multiple = thing_locations(truths, get_stuff_mask(config))
    classes = get_query_classes(config)
    return Queries(torch.tensor(classes), compute_anchors(classes, single, multiple))


def build_state(network: Any, recipe: Recipe, queries: Queries, device: torch.device) -> TrainingState:
    """Select the trained parameters: all but those of the backbone, and of that its last blocks."""
    network.config.output_auxiliary_logits = True
    network.train()
    backbone = network.model.pixel_level_module.encoder
    # The backbone stays in evaluation mode: running statistics of small batches would drift away from its weights.
    backbone.eval().requires_grad_(False)
    tuned = backbone.net._blocks[len(backbone.net._blocks) - recipe.tuned_blocks :].requires_grad_(True)
    slow = {id(parameter) for parameter in tuned.parameters()}
    parameters = {name: one for name, one in network.named_parameters() if one.requires_grad}
    groups = [
        {"params": [one], "share": recipe.backbone_rate if id(one) in slow else 1.0}
        | ({} if one.ndim >= MIN_DECAYED_AXES else {"weight_decay": 0.0})
        for one in parameters.values()
    ]
    return TrainingState(
        network=network,
        parameters=parameters,
        optimizer=AdamW(groups, lr=recipe.rate, weight_decay=recipe.weight_decay),
        average=MovingAverage.start(parameters, recipe.mean_decay),
        queries=queries.to(device),
        stuff=get_stuff_mask(network.config).to(device),
        device=device,
    )


def iterate_batches(sampler: ExampleSampler, recipe: Recipe, config: Any, first: int) -> Iterator[Batch]:
    """Yield the batches from step `first` on; each is built in a thread during the training step before it."""
    with ThreadPoolExecutor(1) as executor:
        pending = executor.submit(build_batch, sampler, recipe, config, first)
        for step in range(first, recipe.steps):
            batch = pending.result()
            if step + 1 < recipe.steps:
                pending = executor.submit(build_batch, sampler, recipe, config, step + 1)
            yield batch


def build_batch(sampler: ExampleSampler, recipe: Recipe, config: Any, step: int) -> Batch:
    """Draw the examples of one step.

    They depend on seed and step only, so a resumed run draws the same ones as an uninterrupted run.
    """
    rng = np.random.default_rng([recipe.seed, step])
    stage = recipe.stage_at(step)
    examples = [sampler.draw_example(stage.side, rng) for _ in range(stage.batch)]
    return Batch(
        pixels=normalize(np.stack([example.pixels for example in examples])),
        truths=tuple(build_truth(example, stride=config.common_stride) for example in examples),
    )


def normalize(pixels: Any) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, as the model's image processor does it."""
    processor = Mask2FormerImageProcessorPil.from_pretrained(FOLDER, trust_remote_code=False)
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() * processor.rescale_factor
    mean, deviation = (torch.tensor(one).view(1, 3, 1, 1) for one in (processor.image_mean, processor.image_std))
    return (scaled - mean) / deviation


def train_step(state: TrainingState, batch: Batch, recipe: Recipe, step: int) -> Loss:
    """Update the parameters once and return the loss before the update."""
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.rate * group["share"] * recipe.rate_at(step)
    truths = [move_truth(truth, state.device) for truth in batch.truths]
    with torch.autocast(state.device.type, torch.bfloat16):
        output = state.network(pixel_values=batch.pixels.to(state.device))
    matches = match_batch(output, truths, state.queries, anchoring=recipe.anchoring_at(step))
    loss = compute_loss(output, truths, matches, state.queries, state.stuff)
    state.optimizer.zero_grad()
    loss.total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(list(state.parameters.values()), MAX_GRADIENT_NORM)
    state.optimizer.step()
    state.average.update(state.parameters, step)
    return loss


def move_truth(truth: Truth, device: torch.device) -> Truth:
    return Truth(**{field.name: getattr(truth, field.name).to(device) for field in fields(Truth)})


def curve_row(step: int, loss: Loss) -> dict[str, float]:
    parts = {field.name: round(getattr(loss, field.name).item(), 4) for field in fields(Loss)}
    return {"step": step, **parts}


def truncate_curve(curve: Path, first: int) -> None:
    """Remove the rows from step `first` on, which a resumed run writes again."""
    rows = curve.read_text().splitlines() if curve.exists() else []
    curve.write_text("".join(f"{line}\n" for line in rows[:first]))


def save_checkpoint(out: Path, state: TrainingState, step: int) -> None:
    """Replace the checkpoint atomically, so that a run that is killed meanwhile keeps the last one."""
    content = {
        "step": step,
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "mean": state.average.weights,
        "queries": {field.name: getattr(state.queries, field.name) for field in fields(Queries)},
    }
    torch.save(content, out / "next.pt")
    (out / "next.pt").replace(out / "checkpoint.pt")


def load_queries(out: Path) -> Queries:
    """Read the queries of an interrupted run; their anchors stay even if the training images have changed since."""
    return Queries(**torch.load(out / "checkpoint.pt", weights_only=True, map_location="cpu")["queries"])


def restore_checkpoint(out: Path, state: TrainingState) -> int:
    """Load the checkpoint into the state and return the next step."""
    content = torch.load(out / "checkpoint.pt", weights_only=True, map_location=state.device)
    state.network.load_state_dict(content["network"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.average.weights.update(content["mean"])
    return int(content["step"])


if __name__ == "__main__":
    main()
