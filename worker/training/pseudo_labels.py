"""Panoptic pseudo-labels for unlabelled images: from a pixel classifier, detected boxes and the images' file names.

    python -m worker.training.pseudo_labels --photos DIR --objects TFLITE --surfaces TFLITE --boxes JSON ... \\
        --coco-panoptic DIR --memory DIR --out DIR

The output is a folder in COCO's panoptic layout, in which `confidence/` has the confidence of each pixel's label.  It
needs the package ai-edge-litert.  Images that are named WNID_name.jpg are corrected by their ImageNet class.  An
interrupted run resumes from the features in --memory.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling
from scipy import ndimage

from worker.engine.coco_classes import STUFF, THINGS
from worker.training.boxes import Box, read_boxes, score_maps, split_mask
from worker.training.classes import QUERIES_PER_CLASS
from worker.training.coco_panoptic import NO_THING_NAME, read_index
from worker.training.imagenet_names import (
    ANIMALS,
    ClassProbs,
    correct_boxes_by_name,
    correct_probs_by_name,
    find_subject,
    is_lookalike,
)
from worker.training.partial_truth import CATEGORIES, OTHER_NAME, write_index
from worker.training.pixel_classifier import Classifier, ClassifierRecipe, collect_samples, train_classifier
from worker.training.teachers import GRID, FeatureCache, Teachers, grid_features

log = logging.getLogger(__name__)

# Side of the label maps in pixels.
SIDE: Final = 256
# Segments with a smaller share of the image are dropped.
MIN_AREA: Final = 0.01
# A connected component is a thing of its own from this share of all pixels of its class.
MIN_COMPONENT_SHARE: Final = 0.2
# A person segment with a larger ratio of width to height may be several people.
MAX_PERSON_ASPECT: Final = 0.8
# A class whose maximum probability is lower is absent from the image.
MAX_ABSENT_PROB: Final = 0.12
# A class is labelled exhaustively if its segments have this share of the pixels where it is the most probable one.
MIN_SHOWN_SHARE: Final = 0.75
# Pixels whose most probable class has a lower probability stay unlabelled.
MIN_LABEL_PROB: Final = 0.35
# Unlabelled pixels where the probabilities of all things sum to less show no thing.
MAX_NO_THING_PROB: Final = 0.1
# A box multiplies the probability of its class by 1 + BOX_FACTOR * score; without a box of at least MIN_BOX_SCORE the
# probability of a thing class is multiplied by NO_BOX_FACTOR.
BOX_FACTOR: Final = 5.0
MIN_BOX_SCORE: Final = 0.2
NO_BOX_FACTOR: Final = 0.2
VIEWS_PER_IMAGE: Final = 4
SAMPLES_PER_VIEW: Final = 220


@dataclass(frozen=True, slots=True)
class PseudoSegment:
    """One segment.  mask: (SIDE, SIDE) bool.  is_crowd: whether it may merge several things."""

    name: str
    mask: NDArray[np.bool_]
    is_crowd: bool = False


def main(arguments: Sequence[str] | None = None) -> None:
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    names = list(QUERIES_PER_CLASS)
    features = FeatureCache(Teachers(options.objects, options.surfaces), options.memory, read_boxes(options.boxes))
    annotated = read_index(options.coco_panoptic, names)
    samples = collect_samples(annotated, features, len(names), views=VIEWS_PER_IMAGE, per_view=SAMPLES_PER_VIEW, seed=0)
    classifier = train_classifier(samples, len(names), ClassifierRecipe())
    label_images(sorted(options.photos.glob("*.jpg")), features, classifier, names, options.out)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Label images by the features of published networks.")
    parser.add_argument(
        "--photos", type=Path, required=True, help="folder of JPEG files; WNID_name.jpg are corrected by that class"
    )
    parser.add_argument("--objects", type=Path, required=True, help="DeepLabV3 of the 21 Pascal VOC classes")
    parser.add_argument("--surfaces", type=Path, required=True, help="DeepLabV3 of 31 ADE20K classes")
    parser.add_argument("--boxes", type=Path, nargs="+", required=True, help="output of detect.mjs for all images")
    parser.add_argument("--coco-panoptic", type=Path, required=True, help="images with ground truth, to train on")
    parser.add_argument("--memory", type=Path, required=True, help="cache of the features: 3 MB for each view")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def label_images(
    files: Sequence[Path], features: FeatureCache, classifier: Classifier, names: Sequence[str], out: Path
) -> None:
    """Write a folder with the labels of all images; those without a labelled segment are left out of its index."""
    for name in ("panoptic", "confidence"):
        (out / name).mkdir(parents=True, exist_ok=True)
    if files and not (out / "images").exists():
        (out / "images").symlink_to(files[0].parent.resolve())
    entries = []
    for number, file in enumerate(files, start=1):
        probs = classifier.predict(grid_features(features.read(file, 0))).reshape(GRID, GRID, -1)
        boxes = correct_boxes_by_name(features.view_boxes(file, 0), file.stem)
        entries.append(label_image(file, number, probs, boxes, names, out))
        log.info("%d of %d: %s", number, len(files), file.stem)
    write_index(out, [entry for entry in entries if entry])


def label_image(
    file: Path, number: int, probs: ClassProbs, boxes: Sequence[Box], names: Sequence[str], out: Path
) -> dict[str, Any] | None:
    """Write one image's label and confidence maps.

    Args:
        number: the image's id.
        probs: (GRID, GRID, C + 1) float32; the last class is any other.
        boxes: as shares of the image's sides.
        names: of the C classes.

    Returns:
        its annotation in the index; None where no segment is of a class of COCO.
    """
    by_name = correct_probs_by_name(probs, file.stem, names)
    corrected = upsample(correct_probs_by_boxes(by_name, boxes, names, find_subject(file.stem)))
    segments = list(find_segments(corrected, boxes, names))
    if is_lookalike(file.stem):
        segments = [segment for segment in segments if segment.name != OTHER_NAME]
    if not any(segment.name in THINGS | STUFF for segment in segments):
        return None
    labels, confidence = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    for place, segment in enumerate(segments, start=1):
        labels[segment.mask] = (place, 0, 0)
        confidence[segment.mask] = np.round(255 * class_confidence(corrected, segment.name, names)[segment.mask])
    Image.fromarray(labels).save(out / "panoptic" / f"{file.stem}.png")
    Image.fromarray(confidence).save(out / "confidence" / f"{file.stem}.png")
    return {
        "image_id": number,
        "file_name": f"{file.stem}.png",
        "image": file.name,
        "segments_info": [
            {"id": place, "category_id": CATEGORIES[segment.name], "iscrowd": int(segment.is_crowd)}
            for place, segment in enumerate(segments, start=1)
        ],
        "certain": sorted(
            CATEGORIES[name]
            for name in exhaustive_classes(corrected, segments, names)
            if name not in ANIMALS or not is_lookalike(file.stem)
        ),
    }


def correct_probs_by_boxes(
    probs: ClassProbs, boxes: Sequence[Box], names: Sequence[str], subject: str | None
) -> ClassProbs:
    """Raise the probabilities of things inside boxes of their class, and lower them outside.

    Those of the image's subject are never lowered.

    Args:
        probs: (side, side, C + 1) float32.
        boxes: as shares of the image's sides.

    Returns:
        a copy, normalized over the last axis.
    """
    scores = score_maps(boxes, names, len(probs))
    factors = np.where(scores >= MIN_BOX_SCORE, 1 + BOX_FACTOR * scores, NO_BOX_FACTOR)
    corrected = probs.copy()
    for number, name in enumerate(names):
        if name in THINGS:
            corrected[..., number] *= np.maximum(factors[..., number], 1.0 if name == subject else 0.0)
    normalized: ClassProbs = corrected / corrected.sum(-1, keepdims=True)
    return normalized


def upsample(probs: ClassProbs) -> ClassProbs:
    """(h, w, C + 1) -> (SIDE, SIDE, C + 1), bilinear."""
    layers = [
        Image.fromarray(np.ascontiguousarray(layer)).resize((SIDE, SIDE), Resampling.BILINEAR)
        for layer in np.moveaxis(probs, -1, 0)
    ]
    return np.stack([np.asarray(layer) for layer in layers], -1)


def class_confidence(probs: ClassProbs, name: str, names: Sequence[str]) -> NDArray[np.float32]:
    """Return (SIDE, SIDE) float32, the confidence of a label at each pixel, in [0, 1]."""
    if name == NO_THING_NAME:
        return np.ones(probs.shape[:2], np.float32)
    return probs[..., names.index(name) if name in names else len(names)]


def find_segments(probs: ClassProbs, boxes: Sequence[Box], names: Sequence[str]) -> Iterator[PseudoSegment]:
    """Yield the segments with probable labels: "no thing", any other class, each thing, and each kind of stuff."""
    most_probable, is_open = probs.argmax(-1), probs.max(-1) < MIN_LABEL_PROB
    thing_numbers = [number for number, name in enumerate(names) if name in THINGS]
    thing_probs = probs[..., [*thing_numbers, len(names)]].sum(-1)
    yield PseudoSegment(NO_THING_NAME, is_open & (thing_probs < MAX_NO_THING_PROB))
    yield PseudoSegment(OTHER_NAME, ~is_open & (most_probable == len(names)))
    for number, name in enumerate(names):
        mask = ~is_open & (most_probable == number)
        if name in THINGS:
            yield from find_things(name, mask, [box for box in boxes if box.name == name])
        elif mask.mean() >= MIN_AREA:
            yield PseudoSegment(name, mask)


def find_things(name: str, mask: NDArray[np.bool_], boxes: Sequence[Box]) -> Iterator[PseudoSegment]:
    """Yield the things of one class: one for each box, or without boxes one for each large connected component."""
    parts, rest = split_mask(mask, boxes)
    for part in parts:
        yield PseudoSegment(name, part)
    if rest.mean() < MIN_AREA:
        return
    if parts:
        yield PseudoSegment(name, rest, is_crowd=True)
    else:
        for component in large_components(rest):
            rows, columns = np.ptp(np.nonzero(component), axis=1)
            # People side by side form one wide component.
            is_crowd = bool(name == "person" and columns > MAX_PERSON_ASPECT * rows)
            yield PseudoSegment(name, component, is_crowd=is_crowd)


def large_components(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the connected components (4-connectivity) of a mask that are large enough."""
    components, _ = ndimage.label(mask)
    areas = np.bincount(components.ravel())
    areas[0] = 0
    min_area = max(MIN_COMPONENT_SHARE * areas.sum(), MIN_AREA * mask.size)
    return [components == number for number in np.flatnonzero(areas >= min_area)]


def exhaustive_classes(probs: ClassProbs, segments: Sequence[PseudoSegment], names: Sequence[str]) -> set[str]:
    """Return the classes of which the segments show every instance: fully labelled ones, and absent ones."""
    highest, most_probable = probs.max((0, 1)), probs.argmax(-1)
    labelled = {segment.name for segment in segments}
    complete = set()
    for number, name in enumerate(names):
        area = sum(segment.mask.sum() for segment in segments if segment.name == name)
        if name in labelled and area >= MIN_SHOWN_SHARE * (most_probable == number).sum():
            complete.add(name)
    return complete | {name for number, name in enumerate(names) if highest[number] < MAX_ABSENT_PROB}


if __name__ == "__main__":
    main()
