"""COCO's instance masks as partial ground truth.

    python -m worker.training.coco_things --things DIR --cutouts DIR --out DIR

writes DIR/test, DIR/validation and DIR/learned in the layout that coco_panoptic.py reads, and DIR/cutouts.  Each of the
first three has a folder for each kind of annotation: `things` (all 80 things of COCO are annotated), `streets` (person,
car, motorcycle and bicycle) and `people` (person).  Images with boxes only are left out.

The folder --things has `images/` and `things.json`, by image id: `file`, `width`, `height`, `complete_for`, which says
which categories are annotated exhaustively, and `things` as COCO's instances: `category`, `bbox`, `iscrowd`, and
`polygons` unless it is a crowd.  The folder --cutouts has `images/` and `people.json`, a list or an object of `file`,
`width`, `height` and `polygons`, those of one person.  things_split.json says which images are set aside.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from worker.engine.coco_classes import THINGS
from worker.training.coco_panoptic import NOT_CERTAIN_NAME
from worker.training.partial_truth import PartialSegment, PartialTruth, write_folder

SPLIT: Final = Path(__file__).with_name("things_split.json")
PARTS: Final = ("test", "validation", "learned")
# The kind of annotation, and the categories that are annotated exhaustively, by the value of `complete_for`.
KINDS: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "all 80 things": ("things", THINGS),
    "person car motorcycle bicycle": ("streets", frozenset({"person", "car", "motorcycle", "bicycle"})),
    "person": ("people", frozenset({"person"})),
}
Entry = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Convert COCO's instance masks to partial ground truth.")
    parser.add_argument("--things", type=Path, required=True, metavar="DIR", help="images/ and things.json")
    parser.add_argument("--cutouts", type=Path, metavar="DIR", help="images/ and people.json")
    parser.add_argument("--split", type=Path, default=SPLIT, metavar="JSON", help="default: that of the project")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    photos = json.loads((options.things / "things.json").read_text())
    for (part, kind), entries in divide_photos(photos, json.loads(options.split.read_text())).items():
        write_folder(options.out / part / kind, options.things / "images", map(convert_photo, entries))
    if options.cutouts:
        people = json.loads((options.cutouts / "people.json").read_text())
        truths = (convert_cutout(entry) for entry in (people.values() if isinstance(people, dict) else people))
        write_folder(options.out / "cutouts", options.cutouts / "images", truths)


def divide_photos(
    photos: Mapping[str, Entry], split: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], list[Entry]]:
    """Return the photos by part and kind of annotation, in the order of their ids; those with boxes only are left out.

    Args:
        photos: by id.
        split: ids of the photos that are set aside, by part.
    """
    part_by_id = {name: part for part, names in split.items() for name in names}
    divided: dict[tuple[str, str], list[Entry]] = {}
    for name, entry in sorted(photos.items()):
        if entry["complete_for"] in KINDS:
            kind, _ = KINDS[entry["complete_for"]]
            divided.setdefault((part_by_id.get(name, "learned"), kind), []).append(entry)
    return divided


def convert_photo(entry: Entry) -> PartialTruth:
    """Draw the things of one photo; where there is none, no certain category is shown.

    A crowd has a box only, in which anything may be a thing of the crowd.  Where masks overlap, the smaller thing is in
    front, since the larger one would hide it.
    """
    _, certain = KINDS[entry["complete_for"]]
    segments, ids = [PartialSegment(NOT_CERTAIN_NAME)], np.ones((entry["height"], entry["width"]), np.int32)
    for thing, inside in iterate_masks(entry):
        segments.append(PartialSegment(thing["category"], bool(thing["iscrowd"])))
        ids[inside] = len(segments)
    return PartialTruth(entry["file"], ids, tuple(segments), certain)


def iterate_masks(entry: Entry) -> Iterator[tuple[Entry, NDArray[np.bool_]]]:
    """Yield each thing of a photo with its mask (H, W): crowds first, then the larger ones first."""
    masks = [
        (thing, fill_box(thing["bbox"], entry) if thing["iscrowd"] else fill_polygons(thing["polygons"], entry))
        for thing in entry["things"]
    ]
    return iter(sorted(masks, key=lambda item: (not item[0]["iscrowd"], -int(item[1].sum()))))


def fill_polygons(polygons: Sequence[Sequence[float]], entry: Entry) -> NDArray[np.bool_]:
    """Return (H, W) bool, the union of polygons x, y, x, y, ... in pixels, as COCO's own script draws it."""
    encoded = coco_mask.merge(coco_mask.frPyObjects(list(polygons), entry["height"], entry["width"]))
    return np.asarray(coco_mask.decode(encoded)).astype(np.bool_)


def fill_box(box: Sequence[float], entry: Entry) -> NDArray[np.bool_]:
    """Return (H, W) bool; box: left, top, width, height in pixels."""
    left, top, width, height = box
    inside = np.zeros((entry["height"], entry["width"]), np.bool_)
    inside[int(top) : int(np.ceil(top + height)), int(left) : int(np.ceil(left + width))] = True
    return inside


def convert_cutout(entry: Entry) -> PartialTruth:
    """Draw the person of a cut-out, of which the surroundings are unknown."""
    ids = fill_polygons(entry["polygons"], entry).astype(np.int32)
    return PartialTruth(entry["file"], ids, (PartialSegment("person"),), frozenset())


if __name__ == "__main__":
    main()
