"""Partial ground truth, and how it is written in the layout that coco_panoptic.py reads."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers.image_transforms import id_to_rgb

from worker.engine.coco_classes import STUFF, THINGS
from worker.training.coco_panoptic import NO_THING_NAME, NOT_CERTAIN_NAME

OTHER_NAME: Final = "other"
CATEGORIES: Final[Mapping[str, int]] = {
    name: number
    for number, name in enumerate([*sorted(THINGS), *sorted(STUFF), NO_THING_NAME, OTHER_NAME, NOT_CERTAIN_NAME], 1)
}


@dataclass(frozen=True, slots=True)
class PartialSegment:
    """One segment of an image.  is_crowd: whether it may show several things."""

    category: str
    is_crowd: bool = False


@dataclass(frozen=True, slots=True)
class PartialTruth:
    """What is known of one image.

    file: name of the image.
    ids: (H, W) integers; n is the n-th segment, 0 is unknown.
    segments: counted from 1.
    certain: the categories that are annotated exhaustively.
    """

    file: str
    ids: NDArray[np.integer]
    segments: tuple[PartialSegment, ...]
    certain: frozenset[str]


def write_folder(out: Path, images: Path, truths: Iterable[PartialTruth]) -> None:
    """Write a folder with partial ground truth; `images` is linked, not copied."""
    (out / "panoptic").mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to(images.resolve())
    entries = []
    for number, truth in enumerate(truths, start=1):
        entry = describe_truth(truth, number)
        colours = id_to_rgb(np.asarray(truth.ids, np.int64))  # type: ignore[no-untyped-call]
        Image.fromarray(colours).save(out / "panoptic" / entry["file_name"])
        entries.append(entry | {"image": truth.file})
    write_index(out, entries)


def describe_truth(truth: PartialTruth, number: int) -> dict[str, Any]:
    """Return the annotation of one image; segments of which no pixel is left are dropped."""
    visible = set(np.unique(truth.ids).tolist())
    return {
        "image_id": number,
        "file_name": f"{Path(truth.file).stem}.png",
        "segments_info": [
            {"id": place, "category_id": CATEGORIES[one.category], "iscrowd": int(one.is_crowd)}
            for place, one in enumerate(truth.segments, start=1)
            if place in visible
        ],
        "certain": sorted(CATEGORIES[name] for name in truth.certain),
    }


def write_index(out: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write `panoptic.json`; each entry also has the image's name as `image`."""
    annotations = list(entries)
    index = {
        "images": [{"id": entry["image_id"], "file_name": entry["image"]} for entry in annotations],
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "isthing": int(name in THINGS)} for name, number in CATEGORIES.items()
        ],
    }
    (out / "panoptic.json").write_text(json.dumps(index))
