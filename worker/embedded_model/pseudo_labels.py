"""Labels for photos that nobody annotated, from two small published networks and the photos' ImageNet classes.

    python -m worker.embedded_model.pseudo_labels --photos DIR --objects TFLITE --surfaces TFLITE --out DIR

What comes out is a folder in COCO's panoptic layout that says what is certain and leaves the rest void.  It needs the
package ai-edge-litert.  The photos are named WNID_name.jpg after their ImageNet class.
"""

import argparse
import importlib
import json
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
from worker.embedded_model.coco_panoptic import NO_THING_NAME

Map = NDArray[np.uint8]

OBJECTS: Final = (
    *("", "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog"),
    *("horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv"),
)
"""The classes of Pascal VOC by their number, as COCO calls them; 0 is anything else."""

SURFACES: Final = {
    3: "sky-other-merged",
    5: "tree-merged",
    6: "ceiling-merged",
    10: "grass-merged",
    12: "pavement-merged",
    19: "curtain",
    27: "sea",
    30: "grass-merged",
}
"""Those of the ADE20K network's classes that are right on two thirds of the annotated photos' pixels, or nearly so."""

HINTS: Final = {
    "sky-other-merged": (3,),
    "tree-merged": (5, 18),
    "grass-merged": (10, 18, 30),
    "sea": (22, 27),
    "road": (7, 12),
    "pavement-merged": (7, 12),
    "building-other-merged": (2,),
    "mountain-merged": (17,),
    "ceiling-merged": (6,),
    "curtain": (19,),
}
"""Where none of these ADE20K classes is seen, there is none of that COCO class either."""

ANIMALS: Final = frozenset({"bird", "cat", "cow", "dog", "horse", "sheep"})
VEHICLES: Final = frozenset({"airplane", "bicycle", "boat", "bus", "car", "motorcycle", "train"})
STAND_INS: Final = {
    **dict.fromkeys(("elephant", "zebra", "bear"), ANIMALS),
    "truck": frozenset({"bus", "car", "train"}),
}
"""VOC has no such class; its network takes them for one of these."""

RARE: Final = frozenset({"elephant", "zebra", "giraffe", "bear", "pizza"})
"""Not in a photo that is not of them."""
NOT_WITH_ANIMALS: Final = frozenset({"cup", "bowl", "bottle", "tv", "umbrella", "dining table"})
LAST_ANIMAL: Final = "n02655020"

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
# Shares of a photo: less than this is not worth a label; less than that may as well be nothing.
LEAST: Final = 0.02
NEXT_TO_NOTHING: Final = 0.002
# A piece of an object this large against all of it is an object of its own.
PIECE: Final = 0.25
# The networks see so few of these that their silence says nothing.
OVERLOOKED: Final = frozenset({"bottle", "chair", "couch", "dining table", "potted plant", "tv"})


@dataclass(frozen=True, slots=True)
class Seen:
    """What the two networks say of one photo: (SIDE, SIDE) numbers of VOC's and of ADE20K's classes."""

    objects: Map
    surfaces: Map

    def share(self, classes: Sequence[str]) -> float:
        """Return the share of the photo that is taken for any of these VOC classes."""
        return float(np.isin(self.objects, [OBJECTS.index(name) for name in classes]).mean())


@dataclass(frozen=True, slots=True)
class Patch:
    """One segment.  mask: (SIDE, SIDE) bool.  A crowd may be several things in one."""

    name: str
    mask: NDArray[np.bool_]
    is_crowd: bool = False


class Teacher:
    """A segmentation network in TensorFlow Lite's format with the class map inside."""

    def __init__(self, file: Path) -> None:
        runtime = importlib.import_module("ai_edge_litert.interpreter")
        self.network: Any = runtime.Interpreter(str(file), num_threads=2)
        self.network.allocate_tensors()
        [self.input], [self.output] = self.network.get_input_details(), self.network.get_output_details()

    def look(self, image: Image.Image) -> Map:
        """Return the class at each place, (SIDE, SIDE) uint8."""
        side = int(self.input["shape"][1])
        pixels = np.asarray(image.resize((side, side), Resampling.BILINEAR), np.uint8)
        self.network.set_tensor(self.input["index"], pixels[None])
        self.network.invoke()
        found = self.network.get_tensor(self.output["index"])[0].astype(np.uint8)
        return np.asarray(Image.fromarray(found).resize((SIDE, SIDE), Resampling.NEAREST))


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    objects, surfaces = Teacher(options.objects), Teacher(options.surfaces)
    (options.out / "panoptic").mkdir(parents=True, exist_ok=True)
    if not (options.out / "images").exists():
        (options.out / "images").symlink_to(options.photos.resolve())
    entries = []
    for number, file in enumerate(sorted(options.photos.glob("*.jpg")), start=1):
        image = Image.open(file).convert("RGB")
        entries.append(labelled(file, number, Seen(objects.look(image), surfaces.look(image)), options.out))
    write_index(options.out, [entry for entry in entries if entry])


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Label photos with two networks.")
    found.add_argument("--photos", type=Path, required=True, help="JPEG files, named after their ImageNet class")
    found.add_argument("--objects", type=Path, required=True, help="DeepLabV3 of the 21 Pascal VOC classes")
    found.add_argument("--surfaces", type=Path, required=True, help="DeepLabV3 of 31 ADE20K classes")
    found.add_argument("--out", type=Path, required=True)
    return found


def labelled(file: Path, number: int, seen: Seen, out: Path) -> dict[str, Any] | None:
    """Write one photo's map and return its entry of the index; None where nothing is certain."""
    subject = subject_of(file.stem)
    patches = [*objects_in(seen, subject), *surfaces_in(seen, subject)]
    if not any(patch.name in THINGS | STUFF for patch in patches):
        return None
    painted = np.zeros((SIDE, SIDE, 3), np.uint8)
    for place, patch in enumerate(patches, start=1):
        painted[patch.mask] = (place, 0, 0)
    Image.fromarray(painted).save(out / "panoptic" / f"{file.stem}.png")
    return {
        "image_id": number,
        "file_name": f"{file.stem}.png",
        "image": file.name,
        "segments_info": [
            {"id": place, "category_id": CATEGORIES[patch.name], "iscrowd": int(patch.is_crowd)}
            for place, patch in enumerate(patches, start=1)
        ],
        "certain": sorted(CATEGORIES[name] for name in absent_from(seen, file.stem, subject)),
    }


CATEGORIES: Final[Mapping[str, int]] = {
    name: number for number, name in enumerate([*sorted(THINGS), *sorted(STUFF), NO_THING_NAME], start=1)
}


def subject_of(stem: str) -> str | None:
    """Return the COCO class that a photo is of, as far as its ImageNet class tells."""
    wordnet, _, name = stem.partition("_")
    for first, last, subject in RUNS:
        if first <= wordnet <= last:
            return subject
    return next((subject for subject, names in NAMES.items() if name in names), None)


def objects_in(seen: Seen, subject: str | None) -> Iterator[Patch]:
    """Yield what the photo is of, and people; of other things the network alone is not to be trusted."""
    if subject and subject != "person":
        names = STAND_INS.get(subject, frozenset({subject}) & frozenset(OBJECTS))
        mask = np.isin(seen.objects, [OBJECTS.index(name) for name in names])
        yield from (Patch(subject, piece) for piece in pieces(mask))
    for piece in pieces(seen.objects == OBJECTS.index("person")):
        rows, columns = np.ptp(np.nonzero(piece), axis=1)
        # Several people side by side make one wide piece.
        yield Patch("person", piece, is_crowd=bool(columns > rows))


def pieces(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the parts of a mask that hang together and are large enough."""
    if mask.mean() < LEAST:
        return []
    parts, _ = ndimage.label(mask)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return [parts == part for part in np.flatnonzero(areas >= max(PIECE * areas.sum(), LEAST * mask.size))]


def surfaces_in(seen: Seen, subject: str | None) -> Iterator[Patch]:
    """Yield stuff, and what is no thing for sure."""
    is_free = seen.objects == 0
    known = np.zeros_like(is_free)
    for name in dict.fromkeys(SURFACES.values()):
        numbers = [number for number, other in SURFACES.items() if other == name]
        mask = np.isin(seen.surfaces, numbers) & is_free
        if mask.mean() >= 2 * LEAST:
            known |= mask
            yield Patch(name, mask)
    names = STAND_INS.get(subject or "", frozenset({subject or ""}))
    if subject is None or seen.share([name for name in names if name in OBJECTS]) >= LEAST:
        # What the photo is of was found, so it is not in the rest.
        yield Patch(NO_THING_NAME, is_free & ~known)


def absent_from(seen: Seen, stem: str, subject: str | None) -> set[str]:
    """Return the classes that the photo does not show."""
    found = {name for name in OBJECTS[1:] if seen.share([name]) >= NEXT_TO_NOTHING}
    absent = set(OBJECTS[1:]) - found - OVERLOOKED
    if not found & ANIMALS:
        absent |= {"elephant", "zebra", "bear", "giraffe"}
    if not found & VEHICLES:
        absent |= {"truck"}
    absent |= RARE
    if stem.partition("_")[0] <= LAST_ANIMAL:
        absent |= NOT_WITH_ANIMALS
    absent |= {name for name, numbers in HINTS.items() if np.isin(seen.surfaces, numbers).mean() < NEXT_TO_NOTHING}
    return absent - {subject}


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
