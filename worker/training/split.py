"""Keep some annotated photos back, to judge on.

    python -m worker.training.split --coco-panoptic DIR --held-out 25 --out DIR

writes DIR/learned and DIR/held_out in COCO's layout; the photos themselves are linked, not copied.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.training.classes import QUERIES_PER_CLASS

DRAWS: Final = 2000


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Keep some annotated photos back, to judge on.")
    parser.add_argument("--coco-panoptic", type=Path, required=True, metavar="DIR")
    parser.add_argument("--held-out", type=int, default=25, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    index = json.loads((options.coco_panoptic / "panoptic.json").read_text())
    is_held_out = held_out(shown_in(index), options.held_out, np.random.default_rng(options.seed))
    write_part(options.coco_panoptic, index, ~is_held_out, options.out / "learned")
    write_part(options.coco_panoptic, index, is_held_out, options.out / "held_out")


def shown_in(index: Mapping[str, Any]) -> NDArray[np.bool_]:
    """(photos, taught classes) bool: which photo shows which class."""
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


def held_out(shown: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which photos to keep back, so that each class is shown by its fair share of them.

    The fairest of many random choices: photos are too few, and show too many classes each, to do it class by class.
    """
    fair, weights = shown.sum(0) * count / len(shown), np.maximum(shown.sum(0), 1) ** -0.5
    draws = np.array([rng.permutation(len(shown)) < count for _ in range(DRAWS)])
    unfairness = (np.abs(draws @ shown.astype(np.float64) - fair) * weights).sum(1)
    return np.asarray(draws[unfairness.argmin()])


def write_part(folder: Path, index: Mapping[str, Any], chosen: NDArray[np.bool_], out: Path) -> None:
    entries = [entry for entry, is_chosen in zip(index["annotations"], chosen, strict=True) if is_chosen]
    numbers = {entry["image_id"] for entry in entries}
    images = [entry for entry in index["images"] if entry["id"] in numbers]
    out.mkdir(parents=True, exist_ok=True)
    for name in ("images", "panoptic"):
        if not (out / name).exists():
            (out / name).symlink_to((folder / name).resolve())
    (out / "panoptic.json").write_text(json.dumps({**index, "images": images, "annotations": entries}))


if __name__ == "__main__":
    main()
