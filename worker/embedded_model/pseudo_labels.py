"""Dense labels for photos that nobody annotated, from the classifier of pixel_classifier.py and the photos' names.

    python -m worker.embedded_model.pseudo_labels --photos DIR --objects TFLITE --surfaces TFLITE \\
        --coco-panoptic DIR --memory DIR --out DIR

What comes out is a folder in COCO's panoptic layout in which `confidence/` says how sure each place is.  It needs the
package ai-edge-litert.  The photos are named WNID_name.jpg after their ImageNet class.  An interrupted run goes on
where it was, as far as --memory has what the teachers saw.
"""

import argparse
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling
from scipy import ndimage

from worker.coco_classes import STUFF, THINGS
from worker.embedded_model.coco_panoptic import NO_THING_NAME, read_index
from worker.embedded_model.pixel_classifier import Classifier, Course, fitted, gathered
from worker.embedded_model.taught import SLOTS
from worker.embedded_model.teachers import GRID, Memory, Teachers, features_of

log = logging.getLogger(__name__)

Odds = NDArray[np.float32]

ANIMALS: Final = frozenset({"bird", "cat", "cow", "dog", "horse", "sheep", "elephant", "bear", "zebra", "giraffe"})
VEHICLES: Final = frozenset({"airplane", "boat", "bus", "car", "train", "truck"})
LAST_ANIMAL: Final = "n02655020"
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

SIDE: Final = 256
# Shares of a photo: less than this is not worth a label.
LEAST: Final = 0.01
# A piece of an object this large against all of it is an object of its own.
PIECE: Final = 0.2
# A piece that is wider than so many times its height may be several people.
ONE_PERSON: Final = 0.8
# A class that is nowhere likelier than this is not there.
ABSENT_BELOW: Final = 0.12
# A class is shown as far as it goes where its segments have this share of the places where it is the likeliest.
SHOWN: Final = 0.75
# What is less likely than this is left open.
OPEN_BELOW: Final = 0.35
# Where all things together are less likely than this, there is none.
NO_THING_BELOW: Final = 0.1
# The name of a photo makes what it names so many times likelier.
NAMED: Final = 4.0
VIEWS: Final = 4
PLACES: Final = 220


@dataclass(frozen=True, slots=True)
class Patch:
    """One segment.  mask: (SIDE, SIDE) bool.  A crowd may be several things in one."""

    name: str
    mask: NDArray[np.bool_]
    is_crowd: bool = False


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    names = list(SLOTS)
    memory = Memory(Teachers(options.objects, options.surfaces), options.memory)
    annotated = read_index(options.coco_panoptic, names)
    samples = gathered(annotated, memory, len(names), views=VIEWS, per_view=PLACES, seed=0)
    classifier = fitted(samples, len(names), Course())
    label_all(sorted(options.photos.glob("*.jpg")), memory, classifier, names, options.out)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Label photos by what published networks see in them.")
    found.add_argument("--photos", type=Path, required=True, help="JPEG files, named after their ImageNet class")
    found.add_argument("--objects", type=Path, required=True, help="DeepLabV3 of the 21 Pascal VOC classes")
    found.add_argument("--surfaces", type=Path, required=True, help="DeepLabV3 of 31 ADE20K classes")
    found.add_argument("--coco-panoptic", type=Path, required=True, help="photos with truth, to learn from")
    found.add_argument("--memory", type=Path, required=True, help="keeps what the networks see: 3 MB for each view")
    found.add_argument("--out", type=Path, required=True)
    return found


def label_all(files: Sequence[Path], memory: Memory, classifier: Classifier, names: Sequence[str], out: Path) -> None:
    """Write a folder with labels of all photos of which anything could be said."""
    for kind in ("panoptic", "confidence"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    if files and not (out / "images").exists():
        (out / "images").symlink_to(files[0].parent.resolve())
    entries = []
    for number, file in enumerate(files, start=1):
        seen = classifier.odds(features_of(memory.look(file, 0))).reshape(GRID, GRID, -1)
        entries.append(labelled(file, number, seen, names, out))
        log.info("%d of %d: %s", number, len(files), file.stem)
    write_index(out, [entry for entry in entries if entry])


def labelled(file: Path, number: int, seen: Odds, names: Sequence[str], out: Path) -> dict[str, Any] | None:
    """Write one photo's maps and return its entry of the index; None where nothing can be said.

    Args:
        seen: (GRID, GRID, classes + 1), probabilities; the last class is any other.
        names: of the classes.
    """
    told = enlarged(told_by_name(seen, file.stem, names))
    patches = list(patches_of(told, names))
    if is_lookalike(file.stem):
        patches = [patch for patch in patches if patch.name != OTHER_NAME]
    if not any(patch.name in THINGS | STUFF for patch in patches):
        return None
    painted, sure = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    for place, patch in enumerate(patches, start=1):
        painted[patch.mask] = (place, 0, 0)
        sure[patch.mask] = np.round(255 * confidence(told, patch.name, names)[patch.mask])
    Image.fromarray(painted).save(out / "panoptic" / f"{file.stem}.png")
    Image.fromarray(sure).save(out / "confidence" / f"{file.stem}.png")
    return {
        "image_id": number,
        "file_name": f"{file.stem}.png",
        "image": file.name,
        "segments_info": [
            {"id": place, "category_id": CATEGORIES[patch.name], "iscrowd": int(patch.is_crowd)}
            for place, patch in enumerate(patches, start=1)
        ],
        "certain": sorted(
            CATEGORIES[name]
            for name in certain(told, patches, names)
            if name not in ANIMALS or not is_lookalike(file.stem)
        ),
    }


OTHER_NAME: Final = "other"
CATEGORIES: Final[Mapping[str, int]] = {
    name: number for number, name in enumerate([*sorted(THINGS), *sorted(STUFF), NO_THING_NAME, OTHER_NAME], start=1)
}


def subject_of(stem: str) -> str | None:
    """Return the COCO class that a photo is of, as far as its ImageNet class tells."""
    wordnet, _, name = stem.partition("_")
    for first, last, subject in RUNS:
        if first <= wordnet <= last:
            return subject
    return next((subject for subject, names in NAMES.items() if name in names), None)


def is_lookalike(stem: str) -> bool:
    wordnet = stem.partition("_")[0]
    return any(first <= wordnet <= last for first, last in LOOKALIKES)


def told_by_name(seen: Odds, stem: str, names: Sequence[str]) -> Odds:
    """Correct what was seen by what the photo is of.

    In a photo of an animal all animals are that one; where it is none that is taught, they are something else.  The
    same goes for vehicles in a photo of one.
    """
    subject, told = subject_of(stem), seen.copy()
    own = names.index(subject) if subject in names else len(names)
    if subject in ANIMALS or stem.partition("_")[0] <= LAST_ANIMAL:
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


def enlarged(odds: Odds) -> Odds:
    """(h, w, classes) -> (SIDE, SIDE, classes)."""
    layers = [
        Image.fromarray(np.ascontiguousarray(layer)).resize((SIDE, SIDE), Resampling.BILINEAR)
        for layer in np.moveaxis(odds, -1, 0)
    ]
    return np.stack([np.asarray(layer) for layer in layers], -1)


def confidence(told: Odds, name: str, names: Sequence[str]) -> Odds:
    """(SIDE, SIDE), how sure it is that a patch of this name is right."""
    if name == NO_THING_NAME:
        return np.ones(told.shape[:2], np.float32)
    return told[..., names.index(name) if name in names else len(names)]


def patches_of(told: Odds, names: Sequence[str]) -> Iterator[Patch]:
    """Yield what is likely enough: each thing for itself, stuff, what is no thing, and what is not taught."""
    likeliest, is_open = told.argmax(-1), told.max(-1) < OPEN_BELOW
    of_things = [number for number, name in enumerate(names) if name in THINGS]
    yield Patch(NO_THING_NAME, is_open & (told[..., [*of_things, len(names)]].sum(-1) < NO_THING_BELOW))
    yield Patch(OTHER_NAME, ~is_open & (likeliest == len(names)))
    for number, name in enumerate(names):
        mask = ~is_open & (likeliest == number)
        if mask.mean() < LEAST:
            continue
        if name in STUFF:
            yield Patch(name, mask)
            continue
        for piece in pieces(mask):
            rows, columns = np.ptp(np.nonzero(piece), axis=1)
            # Several people side by side make one wide piece.
            yield Patch(name, piece, is_crowd=bool(name == "person" and columns > ONE_PERSON * rows))


def pieces(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the parts of a mask that hang together and are large enough."""
    parts, _ = ndimage.label(mask)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return [parts == part for part in np.flatnonzero(areas >= max(PIECE * areas.sum(), LEAST * mask.size))]


def certain(told: Odds, patches: Sequence[Patch], names: Sequence[str]) -> set[str]:
    """Return the classes of which the patches show all there is."""
    highest, likeliest = told.max((0, 1)), told.argmax(-1)
    found = {patch.name for patch in patches}
    whole = set()
    for number, name in enumerate(names):
        shown = sum(patch.mask.sum() for patch in patches if patch.name == name)
        if name in found and shown >= SHOWN * (likeliest == number).sum():
            whole.add(name)
    return whole | {name for number, name in enumerate(names) if highest[number] < ABSENT_BELOW}


def write_index(out: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    index = {
        "images": [{"id": entry["image_id"], "file_name": entry["image"]} for entry in entries],
        "annotations": entries,
        "categories": [
            {"id": number, "name": name, "isthing": int(name in THINGS)} for name, number in CATEGORIES.items()
        ],
    }
    (out / "panoptic.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
