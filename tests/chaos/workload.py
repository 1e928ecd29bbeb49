"""The jobs of a trial: a few small photos, each with several parameters and formats."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from shared.formats.registry import FORMATS
from tests.support.images import admiral, astronaut, cat, coffee, grey, jpeg

# Sides in pixels; decoding and rendering stay short beside the model.
MAX_SIDE = 320
# Every parameter set finds several segments, so that scores and masks are compared.
PARAMETERS = ("threshold=0.3", "threshold=0.6&mask_threshold=0.4", "subtask=semantic")
FORMAT_SETS = ("labels,overlay,masks,rle", "labels,rle", "labels,masks", "labels,overlay")


@dataclass(frozen=True, slots=True)
class Variant:
    """What one job asks for; equal variants have equal results."""

    name: str
    image: bytes
    query: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One job of a trial.  Its caller sends `key` as its Idempotency-Key."""

    number: int
    key: str
    variant: Variant


def build_variants() -> tuple[Variant, ...]:
    """Return the distinct requests of a trial."""
    photos = {"astronaut": astronaut(), "cat": cat(), "coffee": coffee(), "admiral": admiral(), "grey": grey()}
    formats = itertools.cycle(FORMAT_SETS)
    return tuple(
        _build_variant(f"{name} {parameters}", _shrink(photo), parameters, next(formats))
        for name, photo in photos.items()
        for parameters in PARAMETERS
    )


def plan_jobs(variants: Sequence[Variant], count: int, seed: int) -> tuple[PlannedJob, ...]:
    """Return so many jobs, each with a variant chosen by the seed."""
    chosen = random.Random(seed)
    return tuple(
        PlannedJob(number, f"chaos-{seed}-{number}", chosen.choice(variants)) for number in range(1, count + 1)
    )


def _build_variant(name: str, photo: Image.Image, parameters: str, formats: str) -> Variant:
    files = tuple(one.file for one in FORMATS if one.name in formats.split(","))
    return Variant(name, jpeg(photo.convert("RGB")), f"{parameters}&formats={formats}", files)


def _shrink(photo: Image.Image) -> Image.Image:
    small = photo.copy()
    small.thumbnail((MAX_SIDE, MAX_SIDE))
    return small
