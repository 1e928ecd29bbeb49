"""Images with COCO's panoptic ground truth on disk, and the mapping of a model's classes to those of the dataset.

The folder has `images/`, `panoptic/` (PNG, segment id = R + 256 G + 65536 B) and `panoptic.json`.  An annotation may
list as `certain` the categories that it annotates exhaustively.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.evaluation.quality import Bools, PanopticMap, Region
from worker.segmenter import Segmentation


class BadDataset(Exception):
    """The index, the ground truth or the file of names is missing or malformed."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image on disk: its file, that of its ground truth, and the regions of that.

    certain: indices of the classes that are annotated exhaustively; None: all.
    """

    image: Path
    truth: Path
    regions: tuple[Region, ...]
    certain: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """names, is_thing: (C,), by class index.  images: sorted by image id."""

    names: tuple[str, ...]
    is_thing: Bools
    images: tuple[ImageRecord, ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """classes: the dataset's class index by label of the model.  unmatched: names of the model's other labels."""

    classes: Mapping[int, int]
    unmatched: tuple[str, ...]

    def known_classes(self, classes: int) -> Bools:
        """Return (C,) bool, the dataset's classes that the model has; `classes` is C."""
        return np.isin(np.arange(classes), list(self.classes.values()))


def read_dataset(folder: Path) -> Dataset:
    """Read a folder's index.

    Raises:
        BadDataset: it is missing, not in COCO's format, or empty.
    """
    try:
        dataset = _parse_dataset(folder, json.loads((folder / "panoptic.json").read_text()))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BadDataset(f"{folder / 'panoptic.json'} cannot be read: {type(error).__name__}, {error}.") from error
    if not dataset.images:
        raise BadDataset(f"There are no images in {folder / 'panoptic.json'}.")
    return dataset


def read_names(file: Path) -> dict[str, str]:
    """Read a JSON file with the dataset's names by the model's names.

    Raises:
        BadDataset: the file is unreadable or not a JSON object of strings.
    """
    try:
        names = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BadDataset(f"{file} cannot be read: {error}.") from error
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise BadDataset(f'{file} has to be one object of strings, such as {{"sofa": "couch"}}.')
    return names


def read_truth(record: ImageRecord) -> PanopticMap:
    """Read the ground truth of an image."""
    colours = np.asarray(Image.open(record.truth).convert("RGB")).astype(np.int64)
    return PanopticMap(colours @ (1, 256, 65536), record.regions)


def match_vocabulary(labels: Mapping[int, str], names: Sequence[str], aliases: Mapping[str, str]) -> Vocabulary:
    """Match a model's labels to the dataset's names, ignoring case and punctuation.

    Args:
        labels: the model's names by label id.
        names: of the dataset's classes.
        aliases: the dataset's name for a name of the model, where the two differ.

    Raises:
        BadDataset: `aliases` has a class that the dataset lacks.
    """
    numbers = {_fold_name(name): number for number, name in enumerate(names)}
    if unknown := sorted(name for name in aliases.values() if _fold_name(name) not in numbers):
        raise BadDataset(f"The dataset has no class named {', '.join(unknown)}.")
    matched = {label: numbers.get(_fold_name(aliases.get(name, name))) for label, name in labels.items()}
    return Vocabulary(
        classes={label: number for label, number in matched.items() if number is not None},
        unmatched=tuple(labels[label] for label, number in matched.items() if number is None),
    )


def convert_segmentation(
    result: Segmentation, vocabulary: Vocabulary, is_thing: Bools, *, merges_stuff: bool
) -> PanopticMap:
    """Convert a result to the dataset's classes; segments of other classes become void.

    Args:
        is_thing: (C,) bool.
        merges_stuff: merge all segments of a stuff class into one region, as COCO requires of a result.
    """
    table = np.zeros(len(result.segments) + 1, np.int64)
    regions: dict[int, Region] = {}
    stuff: dict[int, int] = {}
    for segment in result.segments:
        label = vocabulary.classes.get(segment.label_id)
        if label is None or not segment.area:
            continue
        is_separate = is_thing[label] or not merges_stuff
        table[segment.id] = segment.id if is_separate else stuff.setdefault(label, segment.id)
        regions.setdefault(int(table[segment.id]), Region(int(table[segment.id]), label))
    return PanopticMap(table[result.label_map], tuple(regions.values()))


def _parse_dataset(folder: Path, index: Mapping[str, list[dict[str, object]]]) -> Dataset:
    categories = index["categories"]
    numbers = {entry["id"]: number for number, entry in enumerate(categories)}
    files = {entry["id"]: str(entry["file_name"]) for entry in index["images"]}
    images = [
        ImageRecord(
            image=folder / "images" / files[entry["image_id"]],
            truth=folder / "panoptic" / str(entry["file_name"]),
            regions=tuple(
                Region(one["id"], numbers[one["category_id"]], bool(one.get("iscrowd", 0)))
                for one in entry["segments_info"]  # type: ignore[attr-defined]
            ),
            certain=_certain_classes(entry, numbers),
        )
        for entry in sorted(index["annotations"], key=lambda entry: int(str(entry["image_id"])))
    ]
    is_thing = np.array([bool(entry["isthing"]) for entry in categories])
    return Dataset(tuple(str(entry["name"]) for entry in categories), is_thing, tuple(images))


def _certain_classes(entry: Mapping[str, Any], numbers: Mapping[Any, int]) -> frozenset[int] | None:
    return frozenset(numbers[one] for one in entry["certain"]) if "certain" in entry else None


def _fold_name(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()
