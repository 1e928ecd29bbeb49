"""Dense labels for photos that nobody annotated: from a classifier, from boxes around things and from photos' names.

    python -m worker.training.pseudo_labels --photos DIR --objects TFLITE --surfaces TFLITE --boxes JSON ... \\
        --coco-panoptic DIR --memory DIR --out DIR

What comes out is a folder in COCO's panoptic layout in which `confidence/` says how sure each place is.  It needs the
package ai-edge-litert.  Photos named WNID_name.jpg after their ImageNet class are judged by that too.  An
interrupted run goes on where it was, as far as --memory has what the teachers saw.
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

from worker.engine.coco_classes import STUFF, THINGS
from worker.training.boxes import Box, covers, parted, read_boxes
from worker.training.classes import QUERIES_PER_CLASS
from worker.training.coco_panoptic import NO_THING_NAME, read_index
from worker.training.imagenet_names import ANIMALS, Odds, is_lookalike, named, subject_of, told_by_name
from worker.training.pixel_classifier import Classifier, Course, fitted, gathered
from worker.training.teachers import GRID, Memory, Teachers, features_of

log = logging.getLogger(__name__)

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
# A box of this score makes what it holds so many times likelier: 1 + BOXED * score; where there is none that is at
# least WEAK, a thing is by UNBOXED as likely.
BOXED: Final = 5.0
WEAK: Final = 0.2
UNBOXED: Final = 0.2
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
    names = list(QUERIES_PER_CLASS)
    memory = Memory(Teachers(options.objects, options.surfaces), options.memory, read_boxes(options.boxes))
    annotated = read_index(options.coco_panoptic, names)
    samples = gathered(annotated, memory, len(names), views=VIEWS, per_view=PLACES, seed=0)
    classifier = fitted(samples, len(names), Course())
    label_all(sorted(options.photos.glob("*.jpg")), memory, classifier, names, options.out)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Label photos by what published networks see in them.")
    found.add_argument(
        "--photos",
        type=Path,
        required=True,
        help="JPEG files; what their ImageNet class tells is used where they are named after it",
    )
    found.add_argument("--objects", type=Path, required=True, help="DeepLabV3 of the 21 Pascal VOC classes")
    found.add_argument("--surfaces", type=Path, required=True, help="DeepLabV3 of 31 ADE20K classes")
    found.add_argument("--boxes", type=Path, nargs="+", required=True, help="what detect.mjs found in all photos")
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
        boxes = named(memory.boxes_in(file, 0), file.stem)
        entries.append(labelled(file, number, seen, boxes, names, out))
        log.info("%d of %d: %s", number, len(files), file.stem)
    write_index(out, [entry for entry in entries if entry])


def labelled(
    file: Path, number: int, seen: Odds, boxes: Sequence[Box], names: Sequence[str], out: Path
) -> dict[str, Any] | None:
    """Write one photo's maps and return its entry of the index; None where nothing can be said.

    Args:
        seen: (GRID, GRID, classes + 1), probabilities; the last class is any other.
        boxes: around things, in shares of the photo's sides.
        names: of the classes.
    """
    by_name = told_by_name(seen, file.stem, names)
    told = enlarged(told_by_boxes(by_name, boxes, names, subject_of(file.stem)))
    patches = list(patches_of(told, boxes, names))
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


def told_by_boxes(seen: Odds, boxes: Sequence[Box], names: Sequence[str], subject: str | None) -> Odds:
    """Make things likelier inside their boxes, and less likely outside; but for what the photo is of."""
    around = covers(boxes, names, len(seen))
    factors = np.where(around >= WEAK, 1 + BOXED * around, UNBOXED)
    told = seen.copy()
    for number, name in enumerate(names):
        if name in THINGS:
            told[..., number] *= np.maximum(factors[..., number], 1.0 if name == subject else 0.0)
    total: Odds = told / told.sum(-1, keepdims=True)
    return total


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


def patches_of(told: Odds, boxes: Sequence[Box], names: Sequence[str]) -> Iterator[Patch]:
    """Yield what is likely enough: each thing for itself, stuff, what is no thing, and what is not taught."""
    likeliest, is_open = told.argmax(-1), told.max(-1) < OPEN_BELOW
    of_things = [number for number, name in enumerate(names) if name in THINGS]
    yield Patch(NO_THING_NAME, is_open & (told[..., [*of_things, len(names)]].sum(-1) < NO_THING_BELOW))
    yield Patch(OTHER_NAME, ~is_open & (likeliest == len(names)))
    for number, name in enumerate(names):
        mask = ~is_open & (likeliest == number)
        if name in THINGS:
            yield from things_of(name, mask, [box for box in boxes if box.name == name])
        elif mask.mean() >= LEAST:
            yield Patch(name, mask)


def things_of(name: str, mask: NDArray[np.bool_], boxes: Sequence[Box]) -> Iterator[Patch]:
    """Yield the things of one class: what is in a box of its own, or else what hangs together."""
    parts, rest = parted(mask, boxes)
    for part in parts:
        yield Patch(name, part)
    if rest.mean() < LEAST:
        return
    if parts:
        yield Patch(name, rest, is_crowd=True)
    else:
        for piece in pieces(rest):
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
