"""Pairs of images side by side, each with a large thing of one class.

    python -m tests.evaluation.pairs --coco-panoptic DIR --category car --out PAIRS
    python -m tests.evaluation.panoptic_quality --coco-panoptic PAIRS

Few images of a small dataset show several large things of one class, too few to measure whether a model separates them;
pairs of its images are enough.  The pairs are written in COCO's panoptic layout.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from tests.evaluation.quality import Ints, PanopticMap, Region
from tests.evaluation.quality_data import BadDataset, ImageRecord, read_dataset, read_truth

HEIGHT: Final = 480
BASE: Final = 256
JPEG_QUALITY: Final = 92


@dataclass(frozen=True, slots=True)
class Half:
    """An image and its ground truth, both HEIGHT pixels high."""

    image: Image.Image
    truth: PanopticMap


def main(arguments: Sequence[str]) -> int:
    """Write the pairs and return the exit status.

    Raises:
        SystemExit: the dataset cannot be read, lacks the category, or has no pair; with the reason.
    """
    chosen = parse_arguments(arguments)
    try:
        dataset = read_dataset(chosen.coco_panoptic)
    except BadDataset as error:
        raise SystemExit(str(error)) from error
    if chosen.category not in dataset.names:
        raise SystemExit(f"{chosen.coco_panoptic} has no category {chosen.category}.")
    label = dataset.names.index(chosen.category)
    large = [record for record in dataset.images if largest_share(read_truth(record), label) >= chosen.min_share]
    numbers = np.random.default_rng(chosen.seed).permutation(list(combinations(range(len(large)), 2)))[
        : chosen.max_pairs
    ]
    if not len(numbers):
        raise SystemExit(f"Fewer than two images show a {chosen.category} that large.")
    pairs = [tuple(load_half(large[number]) for number in pair) for pair in numbers]
    write_pairs(pairs, json.loads((chosen.coco_panoptic / "panoptic.json").read_text())["categories"], chosen.out)
    return 0


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.evaluation.pairs", description="Join images in pairs.")
    parser.add_argument("--coco-panoptic", type=Path, required=True, metavar="DIR")
    parser.add_argument("--category", required=True, metavar="NAME", help="that both images of a pair show")
    parser.add_argument(
        "--min-share",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="minimum share of its image that one covers (default: %(default)s)",
    )
    parser.add_argument(
        "--max-pairs",
        type=int,
        default=50,
        metavar="N",
        help="maximum number of pairs, drawn at random (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    return parser.parse_args(arguments)


def largest_share(truth: PanopticMap, label: int) -> float:
    """Return the share of the image that the largest thing of a class covers, in [0, 1]."""
    shares = [(truth.ids == one.id).mean() for one in truth.regions if one.label == label and not one.is_crowd]
    return float(max(shares, default=0.0))


def load_half(record: ImageRecord) -> Half:
    """Read an image and its ground truth, resized to HEIGHT."""
    image, truth = Image.open(record.image).convert("RGB"), read_truth(record)
    sides = max(1, round(HEIGHT * image.width / image.height)), HEIGHT
    ids = Image.fromarray(truth.ids.astype(np.int32)).resize(sides, Resampling.NEAREST)
    return Half(image.resize(sides, Resampling.BILINEAR), PanopticMap(np.asarray(ids).astype(np.int64), truth.regions))


def join_truths(left: PanopticMap, right: PanopticMap, is_thing: Sequence[bool]) -> PanopticMap:
    """Join two ground truths side by side; stuff of one class, and crowds of one class, become one region."""
    regions: list[Region] = []
    shared: dict[tuple[int, bool], int] = {}
    planes: list[Ints] = []
    for side in (left, right):
        plane = np.zeros_like(side.ids)
        for one in side.regions:
            number = len(regions) + 1
            if one.is_crowd or not is_thing[one.label]:
                number = shared.setdefault((one.label, one.is_crowd), number)
            if number > len(regions):
                regions.append(Region(number, one.label, one.is_crowd))
            plane[side.ids == one.id] = number
        planes.append(plane)
    return PanopticMap(np.concatenate(planes, axis=1), tuple(regions))


def write_pairs(pairs: Sequence[Sequence[Half]], categories: Sequence[Mapping[str, Any]], out: Path) -> None:
    for name in ("images", "panoptic"):
        (out / name).mkdir(parents=True, exist_ok=True)
    is_thing = [bool(entry["isthing"]) for entry in categories]
    images, annotations = [], []
    for number, (left, right) in enumerate(pairs, start=1):
        image = Image.new("RGB", (left.image.width + right.image.width, HEIGHT))
        image.paste(left.image, (0, 0))
        image.paste(right.image, (left.image.width, 0))
        image.save(out / "images" / f"{number:06}.jpg", quality=JPEG_QUALITY)
        truth = join_truths(left.truth, right.truth, is_thing)
        colours = np.stack([truth.ids // BASE**channel % BASE for channel in range(3)], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(out / "panoptic" / f"{number:06}.png")
        images.append({"id": number, "file_name": f"{number:06}.jpg"})
        annotations.append(
            {"image_id": number, "file_name": f"{number:06}.png", "segments_info": segment_infos(truth, categories)}
        )
    index = {"images": images, "annotations": annotations, "categories": categories}
    (out / "panoptic.json").write_text(json.dumps(index))


def segment_infos(truth: PanopticMap, categories: Sequence[Mapping[str, Any]]) -> list[dict[str, int]]:
    return [
        {"id": one.id, "category_id": categories[one.label]["id"], "iscrowd": int(one.is_crowd)}
        for one in truth.regions
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
