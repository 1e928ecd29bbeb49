"""How alike two ways of running one model are:  python -m tests.bench.agreement --model embedded --images DIR

`--a exact --b fast` compares the forward passes, `--dtype-b bfloat16` the types, `--compile-b` what was compiled.
Prints one JSON line: the share of equal pixels over all images, and of the image that differs most.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shared.errors import MaskmillError
from shared.jobs.parameters import SegmentParameters, Subtask
from tests.bench.measuring import progress, surroundings
from worker.engine.execution_plan import ExecutionOptions
from worker.engine.loader import load_segmenter
from worker.segmenter import Segmentation, Segmenter

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
# What a pixel is told to show; a label and not a segment's number, which one segment more or less would shift.
NOTHING = -1


def main(arguments: Sequence[str]) -> int:
    """Load the model twice and compare; the exit code says whether enough pixels are equal."""
    chosen = parsed(arguments)
    files = sorted(path for path in chosen.images.iterdir() if path.suffix.lower() in SUFFIXES)[: chosen.most]
    if not files:
        raise SystemExit(f"There are no images in {chosen.images}.")
    options = {side: build_execution_options(chosen, side) for side in "ab"}
    a, b = (loaded(chosen.model, chosen.device, options[side]) for side in "ab")
    figures = compared(a, b, files, [Subtask(one) for one in chosen.subtasks], chosen.threshold)
    settings = {"model": chosen.model, "threshold": chosen.threshold, "images": len(files), "device": a.device}
    ways = {side: said(options[side]) for side in "ab"}
    print(json.dumps({"bench": "agreement", "settings": settings | ways, "figures": figures, **surroundings()}))
    return 0 if all(one["equal_pixels"] >= chosen.least for one in figures.values()) else 1


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.agreement", description=__doc__)
    parser.add_argument("--model", default="embedded", help="as MASKMILL_MODEL has it")
    parser.add_argument("--images", type=Path, required=True, help="a folder of photos")
    parser.add_argument("--most", type=int, default=1000, help="images to look at")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--subtasks", nargs="+", default=[str(one) for one in Subtask], choices=list(Subtask))
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--least", type=float, default=0.999, help="share of pixels below which the exit code is 1")
    for side, forward in (("a", "exact"), ("b", "fast")):
        parser.add_argument(f"--{side}", default=forward, choices=["exact", "fast"])
        parser.add_argument(f"--dtype-{side}", default="float32", choices=["float32", "bfloat16", "float16"])
        parser.add_argument(f"--compile-{side}", action="store_true")
    parser.add_argument("--dtype", dest="dtype_b", default=argparse.SUPPRESS, help="the same as --dtype-b")
    return parser.parse_args(arguments)


def build_execution_options(chosen: argparse.Namespace, side: str) -> ExecutionOptions:
    words = vars(chosen)
    return ExecutionOptions(
        forward=words[side],
        dtype=words[f"dtype_{side}"],
        compiles=words[f"compile_{side}"],
        max_images=1,
    )


def said(options: ExecutionOptions) -> str:
    return " ".join([options.forward, options.dtype] + ["compiled"] * options.compiles)


def loaded(model: str, device: str, options: ExecutionOptions) -> Segmenter:
    def nothing_to_fetch(source: str, _into: Path) -> None:
        raise SystemExit(f"Fetch {source} first, and name the folder.")

    segmenter = load_segmenter(
        model, public_id=model, device=device, cache=Path(), download=nothing_to_fetch, options=options
    )
    segmenter.warm_up()
    return segmenter


def compared(
    a: Segmenter, b: Segmenter, files: Sequence[Path], subtasks: Sequence[Subtask], threshold: float
) -> dict[str, Any]:
    """Return, for each subtask, the share of pixels with the same label on both sides, and what else differs."""
    shares: dict[Subtask, list[float]] = {subtask: [] for subtask in subtasks}
    segments = dict.fromkeys(subtasks, 0)
    for number, file in enumerate(files, start=1):
        progress(f"agreement: {number} of {len(files)}")
        with Image.open(file) as opened:
            photo = opened.convert("RGB")
        for subtask in subtasks:
            wanted = SegmentParameters(threshold=threshold, subtask=subtask)
            ours, theirs = segmented(a, photo, wanted), segmented(b, photo, wanted)
            shares[subtask].append(float((shown(ours) == shown(theirs)).mean()))
            segments[subtask] += len(ours.segments) == len(theirs.segments)
    return {str(subtask): figures_of(shares[subtask], segments[subtask]) for subtask in subtasks}


def figures_of(shares: Sequence[float], alike: int) -> dict[str, float]:
    return {
        "equal_pixels": round(float(np.mean(shares)), 6),
        "worst_image": round(min(shares), 6),
        "images_without_a_difference": sum(share == 1 for share in shares),
        "images_with_as_many_segments": alike,
    }


def segmented(segmenter: Segmenter, photo: Image.Image, wanted: SegmentParameters) -> Segmentation:
    [result] = segmenter.segment([segmenter.prepare(photo, wanted)])
    if isinstance(result, MaskmillError):
        raise result
    return result


def shown(result: Segmentation) -> np.ndarray:
    """Return the label of each pixel, (H, W)."""
    return np.array([NOTHING, *(segment.label_id for segment in result.segments)])[result.label_map]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
