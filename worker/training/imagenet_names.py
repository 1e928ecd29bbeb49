"""Priors from the ImageNet class of an image, for images that are named WNID_name; others have none."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.training.boxes import Box

# (..., C + 1), a softmax over the trained classes; the last entry is any other class.
ClassProbs = NDArray[np.float32]

ANIMALS: Final = frozenset({"bird", "cat", "cow", "dog", "horse", "sheep", "elephant", "bear", "zebra", "giraffe"})
VEHICLES: Final = frozenset({"airplane", "boat", "bus", "car", "train", "truck"})
# First and last WordNet offset of all animals.
ANIMAL_RANGE: Final = ("n01440764", "n02655020")
# Wild relatives of dogs and of cats: neither these classes nor clearly different ones.
LOOKALIKE_RANGES: Final = (("n02114367", "n02117135"), ("n02119022", "n02120505"), ("n02125311", "n02130308"))

# First and last WordNet offset of ranges of ImageNet classes that are one class of COCO.
CLASS_RANGES: Final = (
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
# COCO's classes by the names of further ImageNet classes.
IMAGENET_NAMES: Final = {
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
# Apes and monkeys, which a detector easily takes for people.
APE_RANGE: Final = ("n02480495", "n02500267")
WORDNET_STEM: Final = re.compile(r"(?P<number>n\d{8})_(?P<name>.+)")
# Multiplies the probability of the class that the file name gives.
SUBJECT_FACTOR: Final = 4.0


def find_subject(stem: str) -> str | None:
    """Return the COCO class of an image's subject; None where its ImageNet class is unknown or corresponds to none."""
    matched = WORDNET_STEM.fullmatch(stem)
    if matched is None:
        return None
    for first, last, subject in CLASS_RANGES:
        if first <= matched["number"] <= last:
            return subject
    return next((subject for subject, names in IMAGENET_NAMES.items() if matched["name"] in names), None)


def is_in_range(stem: str, first: str, last: str) -> bool:
    """Return whether the ImageNet class of an image is known and lies in a range of WordNet offsets, ends included."""
    matched = WORDNET_STEM.fullmatch(stem)
    return matched is not None and first <= matched["number"] <= last


def is_lookalike(stem: str) -> bool:
    return any(is_in_range(stem, first, last) for first, last in LOOKALIKE_RANGES)


def has_animal_subject(stem: str) -> bool:
    return find_subject(stem) in ANIMALS or is_in_range(stem, *ANIMAL_RANGE)


def correct_probs_by_name(probs: ClassProbs, stem: str, names: Sequence[str]) -> ClassProbs:
    """Correct class probabilities by the subject of the image.

    In an image of an animal, the probabilities of all animal classes go to that animal, or to "any other" where it is
    not a trained class.  The same holds for vehicles in an image of a vehicle.

    Args:
        probs: (..., C + 1) float32.
        stem: file name of the image without its suffix.
        names: of the C trained classes.

    Returns:
        a copy, normalized over the last axis.
    """
    subject, corrected = find_subject(stem), probs.copy()
    own = names.index(subject) if subject in names else len(names)
    if has_animal_subject(stem):
        move_probs(corrected, ANIMALS, own, names)
    elif subject in VEHICLES:
        move_probs(corrected, VEHICLES, own, names)
    if subject in names:
        corrected[..., own] *= SUBJECT_FACTOR
    normalized: ClassProbs = corrected / corrected.sum(-1, keepdims=True)
    return normalized


def move_probs(probs: ClassProbs, group: frozenset[str], own: int, names: Sequence[str]) -> None:
    """Move the probabilities of a group of classes to the class with index `own`, in place."""
    others = [number for number, name in enumerate(names) if name in group and number != own]
    probs[..., own] += probs[..., others].sum(-1)
    probs[..., others] = 0


def correct_boxes_by_name(boxes: Sequence[Box], stem: str) -> list[Box]:
    """Correct the classes of boxes in the same way; boxes that contradict the subject are dropped."""
    subject, of_animal = find_subject(stem), has_animal_subject(stem)
    corrected = []
    for box in boxes:
        is_corrected = (of_animal and box.name in ANIMALS) or (subject in VEHICLES and box.name in VEHICLES)
        if not is_corrected and not (box.name == "person" and is_in_range(stem, *APE_RANGE)):
            corrected.append(box)
        elif is_corrected and subject is not None:
            corrected.append(replace(box, name=subject))
    return corrected
