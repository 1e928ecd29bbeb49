"""A small classifier of places in photos: from what the teachers see there to the classes that the model is taught.

It learns from the photos with truth, and is a better teacher than each of the networks that it listens to.  It is the
mean of a few networks of three layers that differ by their seeds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling
from torch import Tensor, nn

from worker.training.coco_panoptic import Photo, Scene, read_scene
from worker.training.teachers import GRID, Memory, features_of
from worker.training.views import view_of

# A part of what comes in and of what is between the layers is left out at random, since photos are few.
LEFT_OUT: Final = 0.3
SMOOTHING: Final = 0.05
# Each class weighs by this power of how rare it is; one that is rarer than RAREST is not made heavier.
RARITY: Final = 0.3
RAREST: Final = 0.002
LEAST_DEVIATION: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Samples:
    """features: (N, channels) float16.  classes: (N,) int64, the last of them being any that is not taught."""

    features: Tensor
    classes: Tensor


@dataclass(frozen=True, slots=True)
class Course:
    """How to train: members of the mean, width of the layers, rounds over the samples, samples of a step."""

    members: int = 2
    width: int = 256
    rounds: int = 8
    batch: int = 1024
    rate: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Classifier:
    """mean, deviation: (channels,), of the features that it learned from."""

    members: Sequence[nn.Module]
    mean: Tensor
    deviation: Tensor

    def odds(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, channels) -> (N, classes), probabilities."""
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            scaled = ((torch.from_numpy(features) - self.mean) / self.deviation).bfloat16()
            found = torch.stack([member(scaled).float().softmax(-1) for member in self.members])
        shares: NDArray[np.float32] = found.mean(0).numpy()
        return shares


def gathered(photos: Sequence[Photo], memory: Memory, classes: int, *, views: int, per_view: int, seed: int) -> Samples:
    """Draw places out of several views of each photo.

    Args:
        classes: how many are taught.
    """
    rng = np.random.default_rng(seed)
    drawn = [
        drawn_places(features_of(memory.look(photo.image, number)), truth, per_view, rng)
        for photo in photos
        for number, truth in enumerate(truths_of(photo, views, classes))
    ]
    return Samples(torch.cat([one.features for one in drawn]), torch.cat([one.classes for one in drawn]))


def truths_of(photo: Photo, views: int, classes: int) -> Iterable[NDArray[np.int64]]:
    """Yield the class of each place of the grid in each view: `classes` for any other, -1 where nobody knows."""
    scene: Scene = read_scene(photo)
    kinds = np.where(scene.kinds >= 0, scene.kinds, np.where(scene.kinds == -1, classes, -1))
    regions = Image.fromarray(scene.regions.astype(np.int32))
    for number in range(views):
        part = view_of(photo.image.stem, regions.size, number).of(regions, GRID, Resampling.NEAREST)
        yield kinds[np.asarray(part)].astype(np.int64).ravel()


def drawn_places(features: NDArray[np.float32], truth: NDArray[np.int64], most: int, rng: Any) -> Samples:
    known = np.flatnonzero(truth >= 0)
    chosen = rng.choice(known, min(most, len(known)), replace=False)
    return Samples(torch.from_numpy(features[chosen]).half(), torch.from_numpy(truth[chosen]))


def fitted(samples: Samples, classes: int, course: Course) -> Classifier:
    """Train a classifier on its samples.

    Args:
        classes: how many are taught.
    """
    mean = samples.features.float().mean(0)
    deviation = samples.features.float().std(0) + LEAST_DEVIATION
    members = [
        fitted_member(samples, mean, deviation, classes + 1, course, course.seed + number)
        for number in range(course.members)
    ]
    return Classifier(members, mean, deviation)


def fitted_member(
    samples: Samples, mean: Tensor, deviation: Tensor, classes: int, course: Course, seed: int
) -> nn.Module:
    torch.manual_seed(seed)
    network = layers(samples.features.shape[1], course.width, classes)
    optimizer = torch.optim.AdamW(network.parameters(), course.rate, weight_decay=course.weight_decay)
    steps = max(1, course.rounds * (len(samples.classes) // course.batch))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, course.rate, total_steps=steps + 1, pct_start=0.1)
    weights = class_weights(samples.classes, classes)
    for _ in range(steps):
        chosen = torch.randint(len(samples.classes), (course.batch,))
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


def layers(channels: int, width: int, classes: int) -> nn.Module:
    middle = [nn.LayerNorm(width), nn.GELU(), nn.Dropout(LEFT_OUT)]
    return nn.Sequential(
        *(nn.Dropout(LEFT_OUT), nn.Linear(channels, width), *middle),
        *(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(LEFT_OUT), nn.Linear(width, classes)),
    )


def class_weights(classes: Tensor, count: int) -> Tensor:
    """(count,), on average 1 over the samples."""
    shares = torch.bincount(classes, minlength=count).float() / len(classes)
    weights = (shares + RAREST) ** -RARITY
    return weights / (weights * shares).sum()
