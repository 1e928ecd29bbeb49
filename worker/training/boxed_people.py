"""Masks for people of whom only boxes are annotated, predicted by a model that was trained on masks.

    python -m worker.training.boxed_people --things DIR --model DIR --out DIR

writes a folder in the layout that coco_panoptic.py reads.  --things is that of coco_things.py, of which this takes the
images with boxes only.  A person who is shown with a mask that fills the box gets this mask; anything in another
box may be a person.  An image without a mask is left out.
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
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import interpolate

from worker.training.boxes import Box, box_iou
from worker.training.coco_panoptic import NOT_CERTAIN_NAME
from worker.training.coco_things import fill_box
from worker.training.network import class_names, get_query_classes
from worker.training.partial_truth import PartialSegment, PartialTruth, write_folder
from worker.training.prediction import load_network, predict

log = logging.getLogger(__name__)

BOXES_ONLY: Final = "person (boxes only)"
PERSON: Final = "person"
# A box is apart from others if its intersection over union with each is at most this.
MAX_IOU_APART: Final = 0.05
# A mask fills a box if the intersection over union of its own bounding box with it is at least this.
MIN_BOX_IOU: Final = 0.75
# A pixel is the person's from the second probability on, and anything between the two.
UNSURE: Final = (0.3, 0.7)
Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    """A person as the model shows them.

    probs: (H, W) float32, of each pixel, in [0, 1].
    subject: (H, W) bool, the largest connected part of more than one half.
    """

    probs: NDArray[np.float32]
    subject: NDArray[np.bool_]

    @classmethod
    def find(cls, probs: NDArray[np.float32]) -> "Person":
        parts, _ = ndimage.label(probs > 0.5)
        areas = np.bincount(parts.ravel(), minlength=2)[1:]
        return cls(probs, (parts == 1 + areas.argmax()) & (parts > 0))

    @property
    def box(self) -> Box:
        """The bounding box of the subject in pixels; without a subject, an empty box."""
        windows = ndimage.find_objects(self.subject.astype(np.uint8))
        if not windows:
            return parse_box(0, 0, 0, 0)
        [(rows, columns)] = windows
        return Box(PERSON, 1.0, columns.start, rows.start, columns.stop, rows.stop)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Predict masks for people of whom only boxes are annotated.")
    parser.add_argument("--things", type=Path, required=True, metavar="DIR", help="images/ and things.json")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="folder of a trained model")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    photos = json.loads((options.things / "things.json").read_text())
    entries = [entry for _, entry in sorted(photos.items()) if entry["complete_for"] == BOXES_ONLY]
    images = options.things / "images"
    write_folder(options.out, images, label_photos(entries, images, load_network(options.model)))


def label_photos(entries: Sequence[Entry], images: Path, network: Any) -> Iterator[PartialTruth]:
    for number, entry in enumerate(entries, start=1):
        truth = label_photo(entry, predict_people(network, Image.open(images / entry["file"])))
        found = sum(not segment.is_crowd for segment in truth.segments[1:])
        log.info("%d of %d: %d of %d people", number, len(entries), found, len(entry["things"]))
        if found:
            yield truth


def predict_people(network: Any, image: Image.Image) -> NDArray[np.float32]:
    """Return (n, H, W) float32: for each query of people the probability that it shows a pixel, in [0, 1]."""
    output = predict(network, image)
    person = class_names(network.config).index(PERSON)
    queries = [query for query, label in enumerate(get_query_classes(network.config)) if label == person]
    size = image.height, image.width
    logits = interpolate(output.masks_queries_logits[:, queries], size=size, mode="bilinear", align_corners=False)
    return np.asarray(logits[0].sigmoid().numpy())


def label_photo(entry: Entry, probs: NDArray[np.float32]) -> PartialTruth:
    """Draw the people of one photo, larger ones first, over the boxes that have no mask.

    Args:
        probs: (n, H, W), see predict_people.
    """
    people = find_people(entry, probs)
    segments, ids = [PartialSegment(NOT_CERTAIN_NAME)], np.ones((entry["height"], entry["width"]), np.int32)
    for place, thing in enumerate(entry["things"]):
        if place not in people:
            segments.append(PartialSegment(PERSON, is_crowd=True))
            ids[fill_box(thing["bbox"], entry)] = len(segments)
    for person in sorted(people.values(), key=lambda person: -int(person.subject.sum())):
        segments.append(PartialSegment(PERSON))
        # Unknown: the edge, and what is shown elsewhere, which may be the rest of someone who is half hidden.
        ids[person.probs > UNSURE[0]] = 0
        ids[person.subject & (person.probs >= UNSURE[1])] = len(segments)
    return PartialTruth(entry["file"], ids, tuple(segments), frozenset({PERSON}))


def find_people(entry: Entry, probs: NDArray[np.float32]) -> dict[int, Person]:
    """Return, by the place of a box in the entry, the person who fills it.

    One query shows the person; or, in a box apart from the others, all queries together do, since a person is often
    shown in pieces.
    """
    boxes = [parse_box(*thing["bbox"]) for thing in entry["things"]]
    shown = [Person.find(one) for one in probs]
    people = {place: shown[query] for place, query in match_boxes(boxes, [one.box for one in shown]).items()}
    for place, box in enumerate(boxes):
        others = [other for number, other in enumerate(boxes) if number != place]
        if place in people or any(box_iou(box, other) > MAX_IOU_APART for other in others):
            continue
        person = Person.find(np.where(fill_box(entry["things"][place]["bbox"], entry), probs.max(0), 0))
        if box_iou(person.box, box) >= MIN_BOX_IOU:
            people[place] = person
    return people


def parse_box(left: float, top: float, width: float, height: float) -> Box:
    return Box(PERSON, 1.0, left, top, left + width, top + height)


def match_boxes(annotated: Sequence[Box], found: Sequence[Box]) -> dict[int, int]:
    """Return, by the index of an annotated box, the index of the found one that fills it; one to one."""
    overlaps = np.array([[box_iou(own, other) for other in found] for own in annotated]).reshape(
        len(annotated), len(found)
    )
    rows, columns = linear_sum_assignment(-overlaps)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {row: column for row, column in pairs if overlaps[row, column] >= MIN_BOX_IOU}


if __name__ == "__main__":
    main()
