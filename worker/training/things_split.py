"""Set photos with instance masks aside, once: things_split.json is the result, and is not written again.

    python -m worker.training.things_split --things DIR --out things_split.json

`test` judges a finished model and is neither trained on nor used for a choice; `validation` is for choices.  Both have
photos of which all 80 things are annotated, and some of streets, since few of the others show a large car.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.training.classes import QUERIES_PER_CLASS
from worker.training.coco_things import KINDS
from worker.training.split import choose_held_out

# Photos of each part by the kind of annotation.
SIZES: Final[Mapping[str, Mapping[str, int]]] = {
    "test": {"things": 132, "streets": 36},
    "validation": {"things": 60, "streets": 15},
}
# A thing is large from this share of its photo.
LARGE: Final = 0.02
Entry = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Set photos with instance masks aside.")
    parser.add_argument("--things", type=Path, required=True, metavar="DIR", help="images/ and things.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="JSON")
    options = parser.parse_args(arguments)
    photos = json.loads((options.things / "things.json").read_text())
    split = split_photos(photos, SIZES, np.random.default_rng(options.seed))
    options.out.write_text(json.dumps(split, indent=1) + "\n")


def split_photos(
    photos: Mapping[str, Entry], sizes: Mapping[str, Mapping[str, int]], rng: np.random.Generator
) -> dict[str, list[str]]:
    """Return the ids of the photos of each part; no photo is in two of them.

    Args:
        photos: by id.
        sizes: photos of each part by the kind of annotation.
    """
    kinds = {name: KINDS[entry["complete_for"]][0] for name, entry in photos.items() if entry["complete_for"] in KINDS}
    split: dict[str, list[str]] = {}
    for part, size_by_kind in sizes.items():
        chosen: list[str] = []
        for kind, size in size_by_kind.items():
            taken = {name for names in split.values() for name in names}
            names = sorted(name for name, one in kinds.items() if one == kind and name not in taken)
            presence = np.array([describe_photo(photos[name]) for name in names])
            chosen += [
                name for name, is_chosen in zip(names, choose_held_out(presence, size, rng), strict=True) if is_chosen
            ]
        split[part] = sorted(chosen)
    return split


def describe_photo(entry: Entry) -> NDArray[np.bool_]:
    """Return (2 C,) bool: which of the C trained classes a photo shows large, and which several times so."""
    large = [
        thing["category"]
        for thing in entry["things"]
        if not thing["iscrowd"] and thing["area"] >= LARGE * entry["width"] * entry["height"]
    ]
    counts = np.array([large.count(name) for name in QUERIES_PER_CLASS])
    return np.concatenate([counts > 0, counts > 1])


if __name__ == "__main__":
    main()
