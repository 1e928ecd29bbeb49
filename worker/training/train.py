"""Training of the embedded model.

    python -m worker.training.train --coco-panoptic DIR --labelled DIR --out DIR

It needs images with COCO's panoptic ground truth and the extra `train`, which provides the backbone's ImageNet weights;
images with partial ground truth (see coco_things.py and outlines.py) improve the model.  The same seed gives the same
weights on the same machine with the same number of threads.  With --resume a run continues from its last checkpoint, or
begins where there is none, so one command starts it and restarts it.
"""

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Mask2FormerImageProcessorPil

from worker.embedded_model import FOLDER
from worker.training.classes import QUERIES_PER_CLASS
from worker.training.coco_panoptic import SceneCache, read_index
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
from worker.training.recipe import DEFAULT_STAGES, Recipe, Stage
from worker.training.sampler import ExampleSampler, mix_weights, sampling_weights
from worker.training.state import (
    TrainingState,
    build_state,
    has_checkpoint,
    load_queries,
    restore_checkpoint,
    save_checkpoint,
    truncate_curve,
)
from worker.training.variation import vary_pixels

log = logging.getLogger(__name__)

# Gradients are clipped to this norm; larger ones destabilize an untrained decoder.
MAX_GRADIENT_NORM: Final = 1.0
# Number of examples from which the anchors of the queries are computed.
SURVEY_EXAMPLES: Final = 400


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of B images in V views.

    pixels: (V * B, 3, side, side) float32, normalized; the first B are the first view of each image, and so on.
    truths: B ground truths.
    is_mirrored: whether all views but the first are mirrored; the ground truths are not.
    """

    pixels: Tensor
    truths: tuple[Truth, ...]
    is_mirrored: bool = False

    @property
    def views(self) -> int:
        return len(self.pixels) // len(self.truths)


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
    sampler = build_sampler(options, recipe, class_names(network.config), ~get_stuff_mask(network.config).numpy())
    train(network, sampler, recipe, options.out, device=torch.device(options.device), resume=options.resume)


def build_sampler(
    options: argparse.Namespace, recipe: Recipe, names: Sequence[str], is_thing: NDArray[np.bool_]
) -> ExampleSampler:
    """List the images of all folders.

    Args:
        names: of the classes, by index.
        is_thing: (C,) bool.

    Raises:
        SystemExit: --labelled-shares are not one for each folder of --labelled.
    """
    annotated = [record for folder in options.coco_panoptic for record in read_index(folder, names)]
    groups = [read_index(folder, names) for folder in options.labelled]
    cutouts = [record for folder in options.cutouts for record in read_index(folder, names)]
    shares = options.labelled_shares or [len(group) for group in groups]
    if len(shares) != len(groups):
        raise SystemExit("--labelled-shares needs one number for each folder of --labelled.")
    return ExampleSampler(
        SceneCache(annotated),
        SceneCache([record for group in groups for record in group]),
        is_thing,
        annotated_share=recipe.share,
        paste_probability=recipe.paste,
        mosaic_probability=recipe.mosaic,
        cutouts=SceneCache(cutouts),
        cutout_probability=recipe.cutout,
        annotated_weights=sampling_weights(annotated, is_thing),
        labelled_weights=mix_weights(groups, shares, is_thing),
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the embedded model.")
    add_folders(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="resume from the checkpoint in --out, if there is one")
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


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add the options that name folders."""

    def add(name: str, text: str, **more: Any) -> None:
        parser.add_argument(name, type=Path, metavar="DIR", help=text, **more)

    add("--coco-panoptic", "images/, panoptic/, panoptic.json", nargs="+", required=True)
    add("--labelled", "the same, with partial ground truth", nargs="*", default=[])
    parser.add_argument(
        "--labelled-shares",
        type=float,
        nargs="*",
        default=[],
        metavar="SHARE",
        help="of each of those folders among them, relative to each other (default: by the number of images)",
    )
    add("--cutouts", "the same; their things are pasted only", nargs="*", default=[])
    add("--start", "initialize from this model, not from the backbone's weights alone")
    add("--out", "for weights, curve and checkpoint", required=True)


def train(
    network: Any, sampler: ExampleSampler, recipe: Recipe, out: Path, *, device: torch.device, resume: bool = False
) -> None:
    """Train a network, and write a model folder, curve.jsonl and a checkpoint to `out`, all three during training."""
    out.mkdir(parents=True, exist_ok=True)
    resume = resume and has_checkpoint(out)
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
    examples = [sampler.draw_example(stage.side, rng) for _ in range(stage.batch // recipe.views)]
    views = np.stack([vary_pixels(example.pixels, rng) for _ in range(recipe.views) for example in examples])
    is_mirrored = recipe.views > 1 and bool(rng.random() < recipe.mirror)
    if is_mirrored:
        views[len(examples) :] = views[len(examples) :, :, ::-1]
    return Batch(
        pixels=normalize(views),
        is_mirrored=is_mirrored,
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
    every_truth = truths * batch.views
    if batch.is_mirrored:
        mirror_back(output, len(truths))
        matches = match_batch(output, every_truth, state.queries, anchoring=recipe.anchoring_at(step))
    else:
        matches = match_batch(output, truths, state.queries, anchoring=recipe.anchoring_at(step)) * batch.views
    loss = compute_loss(
        output, every_truth, matches, state.queries, state.stuff, views=batch.views, is_mirrored=batch.is_mirrored
    )
    state.optimizer.zero_grad()
    loss.total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(list(state.parameters.values()), MAX_GRADIENT_NORM)
    state.optimizer.step()
    state.average.update(state.parameters, step)
    return loss


def mirror_back(output: Any, first: int) -> None:
    """Mirror the masks of a network's output from image `first` on, so that the truth of the first view is theirs."""

    def mirror(masks: Tensor) -> Tensor:
        return torch.cat([masks[:first], masks[first:].flip(-1)])

    output.masks_queries_logits = mirror(output.masks_queries_logits)
    for layer in output.auxiliary_logits:
        layer["masks_queries_logits"] = mirror(layer["masks_queries_logits"])


def move_truth(truth: Truth, device: torch.device) -> Truth:
    return Truth(**{field.name: getattr(truth, field.name).to(device) for field in fields(Truth)})


def curve_row(step: int, loss: Loss) -> dict[str, float]:
    parts = {field.name: round(getattr(loss, field.name).item(), 4) for field in fields(Loss)}
    return {"step": step, **parts}


if __name__ == "__main__":
    main()
