"""Split annotated images into those to train on and those held out for evaluation.

    python -m worker.training.split --coco-panoptic DIR --held-out 25 --out DIR

writes DIR/learned and DIR/held_out in COCO's layout; the images are linked, not copied.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.training.classes import QUERIES_PER_CLASS

CANDIDATES: Final = 2000


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Hold some annotated images out for evaluation.")
    parser.add_argument("--coco-panoptic", type=Path, required=True, metavar="DIR")
    parser.add_argument("--held-out", type=int, default=25, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    index = json.loads((options.coco_panoptic / "panoptic.json").read_text())
    is_held_out = choose_held_out(class_presence(index), options.held_out, np.random.default_rng(options.seed))
    write_subset(options.coco_panoptic, index, ~is_held_out, options.out / "learned")
    write_subset(options.coco_panoptic, index, is_held_out, options.out / "held_out")


def class_presence(index: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return (N, C) bool, which image shows which trained class."""
    names = {entry["id"]: entry["name"] for entry in index["categories"]}
    return np.array(
        [
            [
                name in {names[segment["category_id"]] for segment in entry["segments_info"]}
                for name in QUERIES_PER_CLASS
            ]
            for entry in index["annotations"]
        ]
    )


def choose_held_out(presence: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose `count` images in which each class has its proportional share of images.

    The best of CANDIDATES random choices is taken: the images are too few, and show too many classes each, to stratify
    class by class.

    Args:
        presence: (N, C) bool, which image shows which class.

    Returns:
        (N,) bool.
    """
    expected, weights = presence.sum(0) * count / len(presence), np.maximum(presence.sum(0), 1) ** -0.5
    candidates = np.array([rng.permutation(len(presence)) < count for _ in range(CANDIDATES)])
    deviations = (np.abs(candidates @ presence.astype(np.float64) - expected) * weights).sum(1)
    return np.asarray(candidates[deviations.argmin()])


def write_subset(folder: Path, index: Mapping[str, Any], is_chosen: NDArray[np.bool_], out: Path) -> None:
    """Write the folder of the chosen annotations; is_chosen: (N,) bool."""
    entries = [entry for entry, chosen in zip(index["annotations"], is_chosen, strict=True) if chosen]
    numbers = {entry["image_id"] for entry in entries}
    images = [entry for entry in index["images"] if entry["id"] in numbers]
    out.mkdir(parents=True, exist_ok=True)
    for name in ("images", "panoptic"):
        if not (out / name).exists():
            (out / name).symlink_to((folder / name).resolve())
    (out / "panoptic.json").write_text(json.dumps({**index, "images": images, "annotations": entries}))


if __name__ == "__main__":
    main()
