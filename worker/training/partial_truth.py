"""Partial ground truth, and how it is written and read in the layout of coco_panoptic.py."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers.image_transforms import id_to_rgb, rgb_to_id

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
    confidence: (H, W) float32, of each pixel, in [0, 1]; None where it is 1 everywhere.
    """

    file: str
    ids: NDArray[np.integer]
    segments: tuple[PartialSegment, ...]
    certain: frozenset[str]
    confidence: NDArray[np.float32] | None = None

    @property
    def numbered(self) -> Iterator[tuple[int, PartialSegment]]:
        """The segments with their ids."""
        return enumerate(self.segments, start=1)


def write_folder(out: Path, images: Path, truths: Iterable[PartialTruth]) -> None:
    """Write a folder with partial ground truth, all or none of it with confidence; `images` is linked, not copied."""
    (out / "panoptic").mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to(images.resolve())
    entries = []
    for number, truth in enumerate(truths, start=1):
        entry = describe_truth(truth, number)
        colours = id_to_rgb(np.asarray(truth.ids, np.int64))  # type: ignore[no-untyped-call]
        Image.fromarray(colours).save(out / "panoptic" / entry["file_name"])
        if truth.confidence is not None:
            (out / "confidence").mkdir(exist_ok=True)
            grey = np.round(255 * truth.confidence).astype(np.uint8)
            Image.fromarray(grey).save(out / "confidence" / entry["file_name"])
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
            for place, one in truth.numbered
            if place in visible
        ],
        "certain": sorted(CATEGORIES[name] for name in truth.certain),
    }


def read_folder(folder: Path) -> Iterator[PartialTruth]:
    """Read what write_folder wrote, without confidence."""
    index = json.loads((folder / "panoptic.json").read_text())
    names = {number: name for name, number in CATEGORIES.items()}
    files = {entry["id"]: entry["file_name"] for entry in index["images"]}
    for entry in index["annotations"]:
        with Image.open(folder / "panoptic" / entry["file_name"]) as colours:
            ids = rgb_to_id(np.asarray(colours.convert("RGB"))).astype(np.int32)  # type: ignore[no-untyped-call]
        shown = {
            one["id"]: PartialSegment(names[one["category_id"]], bool(one["iscrowd"])) for one in entry["segments_info"]
        }
        # Ids of dropped segments are not used again.
        segments = tuple(shown.get(place, PartialSegment(OTHER_NAME)) for place in range(1, 1 + max(shown, default=0)))
        certain = frozenset(names[one] for one in entry["certain"])
        yield PartialTruth(files[entry["image_id"]], ids, segments, certain)


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
