"""What changes in training, and the checkpoint that keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import AdamW

from worker.training.ema import MovingAverage
from worker.training.matching import Queries
from worker.training.network import get_stuff_mask
from worker.training.recipe import Recipe

# Parameters of fewer axes (biases, normalization) have no weight decay.
MIN_DECAYED_AXES: Final = 2


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


def build_state(network: Any, recipe: Recipe, queries: Queries, device: torch.device) -> TrainingState:
    """Select the trained parameters: all but those of the backbone, and of that its last blocks."""
    network.config.output_auxiliary_logits = True
    network.train()
    backbone = network.model.pixel_level_module.encoder
    # The backbone stays in evaluation mode: running statistics of small batches would drift away from its weights.
    backbone.eval().requires_grad_(False)
    if device.type == "cpu":
        # Depthwise convolutions are slower in bfloat16 than in float32 there: a step takes an eighth longer.
        backbone.forward = torch.autocast("cpu", enabled=False)(backbone.forward)
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
    (out / "next.pt").replace(checkpoint_file(out))


def checkpoint_file(out: Path) -> Path:
    return out / "checkpoint.pt"


def has_checkpoint(out: Path) -> bool:
    return checkpoint_file(out).exists()


def load_queries(out: Path) -> Queries:
    """Read the queries of an interrupted run; their anchors stay even if the training images have changed since."""
    return Queries(**torch.load(checkpoint_file(out), weights_only=True, map_location="cpu")["queries"])


def restore_checkpoint(out: Path, state: TrainingState) -> int:
    """Load the checkpoint into the state and return the next step."""
    content = torch.load(checkpoint_file(out), weights_only=True, map_location=state.device)
    state.network.load_state_dict(content["network"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.average.weights.update(content["mean"])
    return int(content["step"])
