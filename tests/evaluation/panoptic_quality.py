"""Panoptic quality of a model:  python -m tests.evaluation.panoptic_quality --model embedded --coco-panoptic DIR

Segments images with the worker's engine and compares the results with COCO's panoptic ground truth.  Prints one JSON
line with every figure in [0, 1] and its 95 % bootstrap interval over the images.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from transformers import AutoConfig

from shared.errors import MaskmillError, ModelUnusable
from shared.jobs.parameters import SegmentParameters
from shared.logs import configure_logging
from shared.settings import Settings
from tests.bench.measurement import Measurement, device_name, print_progress
from tests.evaluation.quality import (
    Bools,
    Figure,
    Floats,
    PanopticMap,
    Tally,
    averages,
    bootstrap_intervals,
    class_figures,
    tally,
    total,
)
from tests.evaluation.quality_data import (
    BadDataset,
    Dataset,
    ImageRecord,
    Vocabulary,
    convert_segmentation,
    match_vocabulary,
    read_dataset,
    read_names,
    read_truth,
)
from worker.decoding.pixels import decode
from worker.engine.classes import get_class_names
from worker.engine.execution_plan import Dtype, ExecutionOptions, Forward
from worker.engine.loader import load_segmenter
from worker.engine.model_files import find_model_files
from worker.segmenter import Segmentation, Segmenter, prepare_image

MAX_PIXELS: Final = 100_000_000
DRAWS: Final = 1000
DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Task:
    """An evaluation: images, parameters, and how results are converted.

    settings: one pass over the images for each of them.
    batch: images of a batch.
    merges_stuff: see convert_segmentation.
    """

    dataset: Dataset
    vocabulary: Vocabulary
    settings: tuple[SegmentParameters, ...]
    batch: int = 4
    merges_stuff: bool = True

    @property
    def is_known(self) -> Bools:
        """(C,) bool, the dataset's classes that the model has."""
        return self.vocabulary.known_classes(len(self.dataset.names))


def main(arguments: Sequence[str]) -> int:
    """Evaluate one model on one folder and return the exit status.

    Raises:
        SystemExit: the model or the images cannot be used; with the reason.
    """
    chosen = parse_arguments(arguments)
    try:
        segmenter, task = prepare(chosen)
        tallies = tally_images(segmenter, task)
    except (MaskmillError, BadDataset) as error:
        raise SystemExit(str(error)) from error
    figures = {
        f"{one.threshold:g}": compute_figures(counted, task, per_class=chosen.per_class)
        for one, counted in zip(task.settings, tallies, strict=True)
    }
    settings = describe_settings(chosen, segmenter, task)
    print(Measurement("panoptic_quality", settings, figures, device_name(segmenter.device)).to_json(), flush=True)
    if not chosen.json:
        print_progress(format_table(figures))
    return 0


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    defaults = SegmentParameters()
    parser = argparse.ArgumentParser(prog="python -m tests.evaluation.panoptic_quality", description=__doc__)
    parser.add_argument("--model", default="embedded", help="as MASKMILL_MODEL has it")
    parser.add_argument(
        "--coco-panoptic", type=Path, required=True, metavar="DIR", help="images with their ground truth"
    )
    parser.add_argument("--images", type=positive_integer, metavar="N", help="only the first N images")
    parser.add_argument(
        "--threshold",
        type=thresholds,
        default=str(defaults.threshold),
        metavar="T[,T...]",
        help="minimum score of a segment; each value is a pass of the network (default: %(default)s)",
    )
    parser.add_argument(
        "--overlap", type=float, default=defaults.overlap_mask_area_threshold, help="default: %(default)s"
    )
    parser.add_argument("--names", type=Path, metavar="FILE", help="JSON: the dataset's names by the model's")
    parser.add_argument("--stuff-apart", action="store_true", help="do not merge the segments of a stuff class")
    parser.add_argument("--batch", type=positive_integer, default=4)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--forward", default="auto", choices=get_args(Forward))
    parser.add_argument("--dtype", default="auto", choices=get_args(Dtype))
    parser.add_argument("--per-class", action="store_true", help="also print the figures of each class")
    parser.add_argument("--json", action="store_true", help="no table on stderr")
    return parser.parse_args(arguments)


def prepare(chosen: argparse.Namespace) -> tuple[Segmenter, Task]:
    """Load the model, the dataset and the names.

    Raises:
        ModelUnusable: the model cannot be loaded.
        BadDataset: the dataset or the file of names cannot be read.
    """
    dataset = read_dataset(chosen.coco_panoptic)
    dataset = replace(dataset, images=dataset.images[: chosen.images])
    aliases = read_names(chosen.names) if chosen.names else {}
    options = ExecutionOptions(forward=chosen.forward, dtype=chosen.dtype, max_images=chosen.batch)
    segmenter = load_segmenter(
        chosen.model,
        public_id=chosen.model,
        device=chosen.device,
        cache=Path(),
        download=refuse_download,
        options=options,
    )
    vocabulary = match_vocabulary(read_model_labels(chosen.model), dataset.names, aliases)
    if vocabulary.unmatched:
        print_progress(f"The dataset has no class named {', '.join(vocabulary.unmatched)}; see --names.")
    settings = tuple(
        SegmentParameters(threshold=one, overlap_mask_area_threshold=chosen.overlap) for one in chosen.threshold
    )
    return segmenter, Task(dataset, vocabulary, settings, batch=chosen.batch, merges_stuff=not chosen.stuff_apart)


def read_model_labels(model: str) -> dict[int, str]:
    """Return the names of a model's classes by label id; the model must be in the cache or a folder."""
    source = find_model_files(model, cache=Path(), download=refuse_download)
    return get_class_names(AutoConfig.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False))


def refuse_download(source: str, _into: Path) -> None:
    """Stand in for the downloader: an evaluation does not download models."""
    raise ModelUnusable(f"Fetch {source} first, and name the folder.")


def tally_images(
    segmenter: Segmenter, task: Task, transform_truth: Callable[[PanopticMap], PanopticMap] = lambda truth: truth
) -> list[list[Tally]]:
    """Compare the result of every image with its ground truth.

    Args:
        transform_truth: applied to each ground truth before the comparison.

    Returns:
        for each of the task's settings the tallies of the images.

    Raises:
        MaskmillError: an image could not be segmented.
        BadDataset: an image and its ground truth differ in size.
    """
    tallies: list[list[Tally]] = [[] for _ in task.settings]
    for done, (record, results) in enumerate(segment_images(segmenter, task), start=1):
        truth = transform_truth(read_truth(record))
        for counted, result in zip(tallies, results, strict=True):
            if result.label_map.shape != truth.ids.shape:
                raise BadDataset(f"{record.image.name} is not of the size of its truth.")
            found = convert_segmentation(result, task.vocabulary, task.dataset.is_thing, merges_stuff=task.merges_stuff)
            counted.append(tally(truth, found, len(task.dataset.names)))
        if done % 10 == 0 or done == len(task.dataset.images):
            print_progress(f"panoptic_quality: {done} of {len(task.dataset.images)}")
    return tallies


def segment_images(segmenter: Segmenter, task: Task) -> Iterator[tuple[ImageRecord, list[Segmentation]]]:
    """Yield each image with its result for each of the settings; a batch has one setting."""
    records = task.dataset.images
    for first in range(0, len(records), task.batch):
        part = records[first : first + task.batch]
        images = [decode(record.image.read_bytes(), max_pixels=MAX_PIXELS) for record in part]
        ready = [prepare_image(segmenter, image, task.settings[0]) for image in images]
        by_setting = [
            segmenter.segment([replace(item, parameters=wanted) for item in ready]) for wanted in task.settings
        ]
        for record, *results in zip(part, *by_setting, strict=True):
            yield record, [require_segmentation(result) for result in results]


def require_segmentation(result: Segmentation | MaskmillError) -> Segmentation:
    """Return a result, or raise it if it is an error."""
    if isinstance(result, MaskmillError):
        raise result
    return result


def compute_figures(tallies: Sequence[Tally], task: Task, *, per_class: bool) -> dict[str, Any]:
    """Return the figures of one setting, each with its 95 % interval over the images as `NAME_95`."""

    def compute_averages(counted: Tally) -> Mapping[Figure, Floats]:
        return averages(counted, is_known=task.is_known, is_thing=task.dataset.is_thing)

    intervals = bootstrap_intervals(tallies, compute_averages, draws=DRAWS)
    counted = total(tallies)
    figures: dict[str, Any] = {}
    for (subset, part, name), value in compute_averages(counted).items():
        place = figures.setdefault(subset, {}).setdefault(part, {})
        if name == "classes":
            place[name] = int(value)
        else:
            place |= {
                name: round_figure(float(value)),
                f"{name}_95": [round_figure(one) for one in intervals[subset, part, name]],
            }
    return figures | ({"by_class": compute_class_figures(counted, task)} if per_class else {})


def compute_class_figures(counted: Tally, task: Task) -> dict[str, dict[str, Any]]:
    """Return the figures of each class that is in the ground truth or the prediction."""
    figures, is_known = class_figures(counted), task.is_known
    return {
        name: {figure: round_figure(float(values[number])) for figure, values in figures.items()}
        | {count: int(getattr(counted, count)[number]) for count in ("hits", "wrong", "missed")}
        | {"known": bool(is_known[number])}
        for number, name in enumerate(task.dataset.names)
        if not all(math.isnan(values[number]) for values in figures.values())
    }


def round_figure(value: float) -> float | None:
    """Round a figure; NaN becomes None, JSON's null."""
    return None if math.isnan(value) else round(value, DIGITS)


def describe_settings(chosen: argparse.Namespace, segmenter: Segmenter, task: Task) -> dict[str, Any]:
    """Return the settings under which the figures were computed."""
    return {
        "model": segmenter.model,
        "revision": segmenter.revision,
        "dataset": chosen.coco_panoptic.resolve().name,
        "images": len(task.dataset.images),
        "known_classes": int(np.count_nonzero(task.is_known)),
        "unmatched_names": list(task.vocabulary.unmatched),
        "overlap": chosen.overlap,
        "stuff": "merged" if task.merges_stuff else "apart",
        "batch": task.batch,
        "forward": chosen.forward,
        "dtype": chosen.dtype,
    }


def format_table(figures: Mapping[str, Any]) -> str:
    """Format the figures as a table, in per cent like COCO's."""
    lines = []
    for threshold, subsets in figures.items():
        pixels = subsets["pixels"]
        lines.append(
            f"threshold {threshold}: pixel accuracy {format_percent(pixels['all']['accuracy'])},"
            f" of known classes {format_percent(pixels['known']['accuracy'])}"
        )
        lines.append(f"{'classes':<18}{'PQ':>6}{'95 %':>14}{'SQ':>7}{'RQ':>7}{'mIoU':>7}{'n':>5}")
        for subset in ("seen", "in_truth", "known"):
            lines += [format_row(f"{subset} {part}", measures) for part, measures in subsets[subset].items()]
        lines += [format_class_row(name, one) for name, one in subsets.get("by_class", {}).items()]
    return "\n".join(lines)


def format_row(name: str, measures: Mapping[str, Any]) -> str:
    low, high = (format_percent(one) for one in measures["pq_95"])
    tail = "".join(f"{format_percent(measures[one]):>7}" for one in ("sq", "rq", "miou"))
    return f"{name:<18}{format_percent(measures['pq']):>6}{f'{low} to {high}':>14}{tail}{measures['classes']:>5}"


def format_class_row(name: str, measures: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{measures[one]} {one}" for one in ("hits", "wrong", "missed"))
    return f"  {name:<24}PQ {format_percent(measures['pq']):>5}  {counts}"


def format_percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def thresholds(text: str) -> tuple[float, ...]:
    """Parse numbers in [0, 1], separated by commas; duplicates are dropped.

    Raises:
        ValueError: one is not a number in [0, 1].
    """
    numbers = tuple(dict.fromkeys(float(one) for one in text.split(",")))
    if not all(0 <= one <= 1 for one in numbers):
        raise ValueError(text)
    return numbers


def positive_integer(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    # The log of the engine goes to stderr: stdout has the figures only.
    configure_logging(Settings(log_level="error"), process="evaluation")
    sys.exit(main(sys.argv[1:]))
