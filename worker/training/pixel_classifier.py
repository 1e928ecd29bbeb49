"""A small classifier of pixels: from the features of the teachers to the trained classes.

It is trained on the images with ground truth, and labels other images better than each of the teachers does.  It is an
ensemble of a few three-layer networks with different seeds, whose probabilities are averaged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling
from torch import Tensor, nn

from worker.training.coco_panoptic import OTHER, ImageRecord, read_scene
from worker.training.teachers import GRID, FeatureCache, grid_features
from worker.training.views import make_view

# Of the input and of each hidden layer; high, since there are few images.
DROPOUT: Final = 0.3
SMOOTHING: Final = 0.05
# The weight of a class is (share of the samples + MIN_CLASS_SHARE) ** -RARITY_EXPONENT.
RARITY_EXPONENT: Final = 0.3
MIN_CLASS_SHARE: Final = 0.002
MIN_DEVIATION: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Samples:
    """features: (N, channels) float16.  classes: (N,) int64; the last class is any other."""

    features: Tensor
    classes: Tensor


@dataclass(frozen=True, slots=True)
class ClassifierRecipe:
    """Hyperparameters.

    members: networks of the ensemble.
    width: of the hidden layers.
    epochs: passes over the samples.
    batch: samples of a step.
    rate: maximum learning rate of a one-cycle schedule.
    """

    members: int = 2
    width: int = 256
    epochs: int = 8
    batch: int = 1024
    rate: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Classifier:
    """mean, deviation: (channels,) float32, of the training features."""

    members: Sequence[nn.Module]
    mean: Tensor
    deviation: Tensor

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, C + 1) float32 probabilities for features (N, channels)."""
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            scaled = ((torch.from_numpy(features) - self.mean) / self.deviation).bfloat16()
            probs = torch.stack([member(scaled).float().softmax(-1) for member in self.members])
        averaged: NDArray[np.float32] = probs.mean(0).numpy()
        return averaged


def collect_samples(
    records: Sequence[ImageRecord], features: FeatureCache, classes: int, *, views: int, per_view: int, seed: int
) -> Samples:
    """Sample up to `per_view` pixels with known class from each of several views of each image.

    Args:
        classes: the number C of trained classes.
    """
    rng = np.random.default_rng(seed)
    parts = [
        sample_pixels(grid_features(features.read(record.image, number)), truth, per_view, rng)
        for record in records
        for number, truth in enumerate(read_view_truths(record, views, classes))
    ]
    return Samples(torch.cat([one.features for one in parts]), torch.cat([one.classes for one in parts]))


def read_view_truths(record: ImageRecord, views: int, classes: int) -> Iterator[NDArray[np.int64]]:
    """Yield (GRID * GRID,) int64 for each view, the class of each pixel: C for any other, -1 for unknown."""
    scene = read_scene(record)
    labels = np.where(scene.labels >= 0, scene.labels, np.where(scene.labels == OTHER, classes, -1))
    regions = Image.fromarray(scene.regions.astype(np.int32))
    for number in range(views):
        part = make_view(record.image.stem, regions.size, number).crop(regions, GRID, Resampling.NEAREST)
        yield labels[np.asarray(part)].astype(np.int64).ravel()


def sample_pixels(features: NDArray[np.float32], truth: NDArray[np.int64], count: int, rng: Any) -> Samples:
    known = np.flatnonzero(truth >= 0)
    chosen = rng.choice(known, min(count, len(known)), replace=False)
    return Samples(torch.from_numpy(features[chosen]).half(), torch.from_numpy(truth[chosen]))


def train_classifier(samples: Samples, classes: int, recipe: ClassifierRecipe) -> Classifier:
    """Train the ensemble.

    Args:
        classes: the number C of trained classes.
    """
    mean = samples.features.float().mean(0)
    deviation = samples.features.float().std(0) + MIN_DEVIATION
    members = [
        train_member(samples, mean, deviation, classes + 1, recipe, recipe.seed + number)
        for number in range(recipe.members)
    ]
    return Classifier(members, mean, deviation)


def train_member(
    samples: Samples, mean: Tensor, deviation: Tensor, classes: int, recipe: ClassifierRecipe, seed: int
) -> nn.Module:
    torch.manual_seed(seed)
    network = build_layers(samples.features.shape[1], recipe.width, classes)
    optimizer = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
    steps = max(1, recipe.epochs * (len(samples.classes) // recipe.batch))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps + 1, pct_start=0.1)
    weights = class_weights(samples.classes, classes)
    for _ in range(steps):
        chosen = torch.randint(len(samples.classes), (recipe.batch,))
        scaled = (samples.features[chosen].float() - mean) / deviation
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(scaled)
        loss = nn.functional.cross_entropy(
            logits.float(), samples.classes[chosen], weight=weights, label_smoothing=SMOOTHING
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval()


def build_layers(channels: int, width: int, classes: int) -> nn.Module:
    middle = [nn.LayerNorm(width), nn.GELU(), nn.Dropout(DROPOUT)]
    return nn.Sequential(
        *(nn.Dropout(DROPOUT), nn.Linear(channels, width), *middle),
        *(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(width, classes)),
    )


def class_weights(classes: Tensor, count: int) -> Tensor:
    """Return (count,) float32 weights of the classes, whose mean over the samples is 1."""
    shares = torch.bincount(classes, minlength=count).float() / len(classes)
    weights = (shares + MIN_CLASS_SHARE) ** -RARITY_EXPONENT
    return weights / (weights * shares).sum()
