"""What the ImageNet class of a photo tells about what is in it: nothing, where the photo is not named WNID_name."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.training.boxes import Box

Odds = NDArray[np.float32]

ANIMALS: Final = frozenset({"bird", "cat", "cow", "dog", "horse", "sheep", "elephant", "bear", "zebra", "giraffe"})
VEHICLES: Final = frozenset({"airplane", "boat", "bus", "car", "train", "truck"})
# First and last WordNet number of all animals.
OF_ANIMALS: Final = ("n01440764", "n02655020")
# First and last WordNet number of the wild relatives of dogs and of cats: neither these, nor clearly something else.
LOOKALIKES: Final = (("n02114367", "n02117135"), ("n02119022", "n02120505"), ("n02125311", "n02130308"))

# First and last WordNet number of runs of ImageNet classes that are one class of COCO.
RUNS: Final = (
    ("n01514668", "n01622779", "bird"),
    ("n01795545", "n01860187", "bird"),
    ("n01871265", "n01871265", "elephant"),
    ("n02002556", "n02058221", "bird"),
    ("n02085620", "n02113978", "dog"),
    ("n02123045", "n02124075", "cat"),
    ("n02132136", "n02134418", "bear"),
    ("n02389026", "n02389026", "horse"),
    ("n02391049", "n02391049", "zebra"),
    ("n02403003", "n02410509", "cow"),
    ("n02412080", "n02415577", "sheep"),
    ("n02504013", "n02504458", "elephant"),
)
NAMES: Final = {
    "airplane": ("airliner", "warplane"),
    "bicycle": ("bicycle-built-for-two", "mountain_bike"),
    "boat": (
        *("canoe", "catamaran", "container_ship", "fireboat", "gondola", "lifeboat", "liner", "schooner", "speedboat"),
        *("trimaran", "yawl", "pirate", "wreck"),
    ),
    "bottle": ("beer_bottle", "pill_bottle", "pop_bottle", "water_bottle", "wine_bottle"),
    "bus": ("minibus", "school_bus", "trolleybus"),
    "car": (
        *("beach_wagon", "cab", "convertible", "jeep", "limousine", "minivan", "Model_T", "racer", "sports_car"),
        *("car_wheel", "grille", "police_van"),
    ),
    "chair": ("barber_chair", "folding_chair", "rocking_chair", "throne"),
    "couch": ("studio_couch",),
    "motorcycle": ("moped", "motor_scooter"),
    "person": ("ballplayer", "groom", "scuba_diver"),
    "pizza": ("pizza",),
    "potted plant": ("pot",),
    "train": (
        *("bullet_train", "electric_locomotive", "freight_car", "passenger_car", "steam_locomotive", "streetcar"),
    ),
    "truck": (*("ambulance", "fire_engine", "garbage_truck", "moving_van", "pickup", "tow_truck", "trailer_truck"),),
    "tv": ("monitor", "screen", "television", "home_theater", "entertainment_center"),
    "bear": ("teddy",),
    "umbrella": ("umbrella",),
    "cup": ("coffee_mug", "cup", "espresso"),
    "bowl": ("mixing_bowl", "soup_bowl"),
    "dining table": ("dining_table",),
}
# First and last WordNet number of those that are easily taken for people.
APES: Final = ("n02480495", "n02500267")
WORDNET: Final = re.compile(r"(?P<number>n\d{8})_(?P<name>.+)")
# The name of a photo makes what it names so many times likelier.
NAMED: Final = 4.0


def subject_of(stem: str) -> str | None:
    """Return the COCO class that a photo is of, as far as its ImageNet class tells."""
    known = WORDNET.fullmatch(stem)
    if known is None:
        return None
    for first, last, subject in RUNS:
        if first <= known["number"] <= last:
            return subject
    return next((subject for subject, names in NAMES.items() if known["name"] in names), None)


def is_within(stem: str, first: str, last: str) -> bool:
    """Return whether the ImageNet class of a photo is known to lie in a run."""
    known = WORDNET.fullmatch(stem)
    return known is not None and first <= known["number"] <= last


def is_lookalike(stem: str) -> bool:
    return any(is_within(stem, first, last) for first, last in LOOKALIKES)


def is_of_animal(stem: str) -> bool:
    return subject_of(stem) in ANIMALS or is_within(stem, *OF_ANIMALS)


def told_by_name(seen: Odds, stem: str, names: Sequence[str]) -> Odds:
    """Correct what was seen by what the photo is of.

    In a photo of an animal all animals are that one; where it is none that is taught, they are something else.  The
    same goes for vehicles in a photo of one.
    """
    subject, told = subject_of(stem), seen.copy()
    own = names.index(subject) if subject in names else len(names)
    if is_of_animal(stem):
        moved(told, ANIMALS, own, names)
    elif subject in VEHICLES:
        moved(told, VEHICLES, own, names)
    if subject in names:
        told[..., own] *= NAMED
    total: Odds = told / told.sum(-1, keepdims=True)
    return total


def moved(odds: Odds, group: frozenset[str], own: int, names: Sequence[str]) -> None:
    """Give what is likely of a group to one class, in place."""
    others = [number for number, name in enumerate(names) if name in group and number != own]
    odds[..., own] += odds[..., others].sum(-1)
    odds[..., others] = 0


def named(boxes: Sequence[Box], stem: str) -> list[Box]:
    """Correct what boxes are said to hold in the same way; those that must be wrong are left out."""
    subject, of_animal = subject_of(stem), is_of_animal(stem)
    found = []
    for box in boxes:
        is_corrected = (of_animal and box.name in ANIMALS) or (subject in VEHICLES and box.name in VEHICLES)
        if not is_corrected and not (box.name == "person" and is_within(stem, *APES)):
            found.append(box)
        elif is_corrected and subject is not None:
            found.append(replace(box, name=subject))
    return found
