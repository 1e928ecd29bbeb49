"""Photos with COCO's panoptic truth as they lie on disk, and which of a model's classes are which of theirs.

The folder has `images/`, `panoptic/` (PNG, segment id = R + 256 G + 65536 B) and `panoptic.json`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.evaluation.quality import Bools, PanopticMap, Region
from worker.segmenter import Segmentation


class BadDataset(Exception):
    """The photos, their truth, or the names that go with them are not what they should be."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo on disk, its truth, and what its truth shows."""

    image: Path
    truth: Path
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """names, is_thing: of each class, by its number.  The photos are in the order of their ids."""

    names: tuple[str, ...]
    is_thing: Bools
    photos: tuple[Photo, ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """classes: the dataset's number for each label of the model that it has; `unmatched` are names it does not have."""

    classes: Mapping[int, int]
    unmatched: tuple[str, ...]

    def known(self, classes: int) -> Bools:
        """Return which of the dataset's classes the model can name, (C,)."""
        return np.isin(np.arange(classes), list(self.classes.values()))


def read_dataset(folder: Path) -> Dataset:
    """Read a folder's index.

    Raises:
        BadDataset: there is none, it is not COCO's, or it lists nothing.
    """
    try:
        dataset = _dataset(folder, json.loads((folder / "panoptic.json").read_text()))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BadDataset(f"{folder / 'panoptic.json'} cannot be read: {type(error).__name__}, {error}.") from error
    if not dataset.photos:
        raise BadDataset(f"There are no photos in {folder / 'panoptic.json'}.")
    return dataset


def read_names(file: Path) -> dict[str, str]:
    """Read what to call a model's classes.

    Raises:
        BadDataset: it is not a JSON object of strings.
    """
    try:
        names = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BadDataset(f"{file} cannot be read: {error}.") from error
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise BadDataset(f'{file} has to be one object of strings, such as {{"sofa": "couch"}}.')
    return names


def truth_of(photo: Photo) -> PanopticMap:
    colours = np.asarray(Image.open(photo.truth).convert("RGB")).astype(np.int64)
    return PanopticMap(colours @ (1, 256, 65536), photo.regions)


def vocabulary(labels: Mapping[int, str], names: Sequence[str], renamed: Mapping[str, str]) -> Vocabulary:
    """Find each of a model's labels among the dataset's names; case and punctuation do not matter.

    Args:
        labels: the model's names by number.
        renamed: the dataset's name for a name of the model, where the two differ.

    Raises:
        BadDataset: `renamed` names a class that the dataset does not have.
    """
    numbers = {_folded(name): number for number, name in enumerate(names)}
    if strange := sorted(name for name in renamed.values() if _folded(name) not in numbers):
        raise BadDataset(f"The dataset has no class named {', '.join(strange)}.")
    places = {label: numbers.get(_folded(renamed.get(name, name))) for label, name in labels.items()}
    return Vocabulary(
        classes={label: number for label, number in places.items() if number is not None},
        unmatched=tuple(labels[label] for label, number in places.items() if number is None),
    )


def found_in(result: Segmentation, words: Vocabulary, is_thing: Bools, *, merges_stuff: bool) -> PanopticMap:
    """Read a result as COCO has it: in the dataset's classes, and without segments of any other.

    Args:
        merges_stuff: make one region of all segments of a class that has no instances, as COCO asks of a result.
    """
    table = np.zeros(len(result.segments) + 1, np.int64)
    regions: dict[int, Region] = {}
    stuff: dict[int, int] = {}
    for segment in result.segments:
        label = words.classes.get(segment.label_id)
        if label is None or not segment.area:
            continue
        is_whole = is_thing[label] or not merges_stuff
        table[segment.id] = segment.id if is_whole else stuff.setdefault(label, segment.id)
        regions.setdefault(int(table[segment.id]), Region(int(table[segment.id]), label))
    return PanopticMap(table[result.label_map], tuple(regions.values()))


def _dataset(folder: Path, index: Mapping[str, list[dict[str, object]]]) -> Dataset:
    categories = index["categories"]
    numbers = {entry["id"]: number for number, entry in enumerate(categories)}
    files = {entry["id"]: str(entry["file_name"]) for entry in index["images"]}
    photos = [
        Photo(
            image=folder / "images" / files[entry["image_id"]],
            truth=folder / "panoptic" / str(entry["file_name"]),
            regions=tuple(
                Region(one["id"], numbers[one["category_id"]], bool(one.get("iscrowd", 0)))
                for one in entry["segments_info"]  # type: ignore[attr-defined]
            ),
        )
        for entry in sorted(index["annotations"], key=lambda entry: int(str(entry["image_id"])))
    ]
    is_thing = np.array([bool(entry["isthing"]) for entry in categories])
    return Dataset(tuple(str(entry["name"]) for entry in categories), is_thing, tuple(photos))


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()
