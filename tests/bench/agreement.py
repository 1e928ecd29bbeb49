"""Compare two execution plans of one model:  python -m tests.bench.agreement --model embedded --images DIR

`--a exact --b fast` selects the forward passes, `--dtype-b bfloat16` the dtypes, `--compile-b` compiles one of them.
Prints one JSON line: the share of equal pixels over all images, and that of the image that differs most.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shared.jobs.parameters import SegmentParameters, Subtask
from tests.bench.measurement import describe_environment, print_progress
from tests.bench.segmentation import equal_label_share, segment_images
from worker.engine.execution_plan import ExecutionOptions
from worker.engine.loader import load_segmenter
from worker.segmenter import Segmenter

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def main(arguments: Sequence[str]) -> int:
    """Load the model twice and compare; the exit code is 1 where too few pixels are equal."""
    chosen = parse_arguments(arguments)
    files = sorted(path for path in chosen.images.iterdir() if path.suffix.lower() in SUFFIXES)[: chosen.max_images]
    if not files:
        raise SystemExit(f"There are no images in {chosen.images}.")
    options = {side: build_execution_options(chosen, side) for side in "ab"}
    a, b = (load(chosen.model, chosen.device, options[side]) for side in "ab")
    figures = compare(a, b, files, [Subtask(one) for one in chosen.subtasks], chosen.threshold)
    settings = {"model": chosen.model, "threshold": chosen.threshold, "images": len(files), "device": a.device}
    sides = {side: describe_options(options[side]) for side in "ab"}
    line = {"bench": "agreement", "settings": settings | sides, "figures": figures, **describe_environment()}
    print(json.dumps(line))
    return 0 if all(one["equal_pixels"] >= chosen.min_equal for one in figures.values()) else 1


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.agreement", description=__doc__)
    parser.add_argument("--model", default="embedded", help="as in MASKMILL_MODEL")
    parser.add_argument("--images", type=Path, required=True, help="a folder of images")
    parser.add_argument("--max-images", type=int, default=1000, metavar="N", help="use the first N images")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--subtasks", nargs="+", default=[str(one) for one in Subtask], choices=list(Subtask))
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument(
        "--min-equal",
        type=float,
        default=0.999,
        metavar="SHARE",
        help="share of equal pixels below which the exit code is 1",
    )
    for side, forward in (("a", "exact"), ("b", "fast")):
        parser.add_argument(f"--{side}", default=forward, choices=["exact", "fast"])
        parser.add_argument(f"--dtype-{side}", default="float32", choices=["float32", "bfloat16", "float16"])
        parser.add_argument(f"--compile-{side}", action="store_true")
    parser.add_argument("--dtype", dest="dtype_b", default=argparse.SUPPRESS, help="the same as --dtype-b")
    return parser.parse_args(arguments)


def build_execution_options(chosen: argparse.Namespace, side: str) -> ExecutionOptions:
    values = vars(chosen)
    return ExecutionOptions(
        forward=values[side],
        dtype=values[f"dtype_{side}"],
        is_compiled=values[f"compile_{side}"],
        max_images=1,
    )


def describe_options(options: ExecutionOptions) -> str:
    return " ".join([options.forward, options.dtype] + ["compiled"] * options.is_compiled)


def load(model: str, device: str, options: ExecutionOptions) -> Segmenter:
    """Load and warm up a model that is on this machine already."""

    def refuse_download(source: str, _into: Path) -> None:
        raise SystemExit(f"Fetch {source} first, and name the folder.")

    segmenter = load_segmenter(
        model, public_id=model, device=device, cache=Path(), download=refuse_download, options=options
    )
    segmenter.warm_up()
    return segmenter


def compare(
    a: Segmenter, b: Segmenter, files: Sequence[Path], subtasks: Sequence[Subtask], threshold: float
) -> dict[str, Any]:
    """Segment each file with both segmenters; return the figures of each subtask.

    Raises:
        MaskmillError: an image could not be segmented.
    """
    shares: dict[Subtask, list[float]] = {subtask: [] for subtask in subtasks}
    equal_counts = dict.fromkeys(subtasks, 0)
    for number, file in enumerate(files, start=1):
        print_progress(f"agreement: {number} of {len(files)}")
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        for subtask in subtasks:
            parameters = SegmentParameters(threshold=threshold, subtask=subtask)
            [result_a], [result_b] = (segment_images(segmenter, [image], 1, parameters) for segmenter in (a, b))
            shares[subtask].append(equal_label_share(result_a, result_b))
            equal_counts[subtask] += len(result_a.segments) == len(result_b.segments)
    return {str(subtask): summarize(shares[subtask], equal_counts[subtask]) for subtask in subtasks}


def summarize(shares: Sequence[float], equal_counts: int) -> dict[str, float]:
    """Return the figures of one subtask.

    Args:
        shares: share of equal pixels of each image, in [0, 1].
        equal_counts: images for which both sides have the same number of segments.
    """
    return {
        "equal_pixels": round(float(np.mean(shares)), 6),
        "worst_image": round(min(shares), 6),
        "images_without_a_difference": sum(share == 1 for share in shares),
        "images_with_as_many_segments": equal_counts,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
