"""How good a model is, beside others:  python -m tests.evaluation.report --models DIR embedded --things DIR ...

Measures, at the default threshold and at the best one:

- people and cars of more than 2 % of their image that are matched, and wrong segments for each match; animals together;
- people of more than 5 % that are found, and those of them that one segment shows;
- panoptic quality of the things that the model has, and with --coco-panoptic of all of its classes;
- with --stability N, how far the results of N images change with JPEG quality, a flip, and rescaling.

Prints one JSON line for each model, and a table on stderr.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from shared.errors import MaskmillError
from shared.jobs.parameters import SegmentParameters
from shared.logs import configure_logging
from shared.settings import Settings
from tests.bench.measurement import Measurement, device_name, print_progress
from tests.evaluation.panoptic_quality import (
    MAX_PIXELS,
    Task,
    read_model_labels,
    refuse_download,
    require_segmentation,
    segment_images,
    tally_images,
    thresholds,
)
from tests.evaluation.quality import Tally, averages, tally, total
from tests.evaluation.quality_data import (
    BadDataset,
    Dataset,
    ImageRecord,
    convert_segmentation,
    match_vocabulary,
    read_dataset,
    read_truth,
)
from tests.evaluation.report_table import format_report
from tests.evaluation.stability import compare_variants, summarize
from tests.evaluation.things import (
    Pieces,
    count_matches,
    count_pieces,
    mark_small_as_crowd,
    share_interval,
    sum_pieces,
)
from worker.decoding.pixels import decode
from worker.engine.loader import load_segmenter
from worker.segmenter import Segmentation, Segmenter, prepare_image

# Below 0.5 nothing changes where a query has a single class, since it is more likely no object then.
THRESHOLDS: Final = "0.5,0.6,0.7,0.8,0.9,0.95"
LARGE: Final = 0.02
VERY_LARGE: Final = 0.05
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "people": ("person",),
    "cars": ("car",),
    "animals": ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
}


@dataclass(frozen=True, slots=True)
class Observation:
    """What was counted in one image at one threshold.

    plain: over all things.
    large: with the things of GROUPS that are small marked as crowds.
    pieces: of people.
    certain: indices of the classes that are annotated exhaustively; None: all.
    """

    plain: Tally
    large: Tally
    pieces: Pieces
    certain: frozenset[int] | None


def main(arguments: Sequence[str]) -> int:
    """Evaluate the models and return the exit status.

    Raises:
        SystemExit: a model or a folder cannot be used; with the reason.
    """
    chosen = parse_arguments(arguments)
    reports = {}
    try:
        for model in chosen.models:
            segmenter = load_segmenter(
                model, public_id=model, device=chosen.device, cache=Path(), download=refuse_download
            )
            reports[model] = evaluate(segmenter, model, chosen)
            settings = describe_settings(chosen, segmenter)
            print(Measurement("report", settings, reports[model], device_name(segmenter.device)).to_json(), flush=True)
    except (MaskmillError, BadDataset) as error:
        raise SystemExit(str(error)) from error
    print_progress(format_report(reports))
    return 0


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.evaluation.report", description="Evaluate models.")
    parser.add_argument("--models", nargs="+", default=["embedded"], metavar="MODEL", help="as MASKMILL_MODEL has it")
    parser.add_argument(
        "--things", type=Path, nargs="+", required=True, metavar="DIR", help="images with the ground truth of things"
    )
    parser.add_argument("--coco-panoptic", type=Path, metavar="DIR", help="images with complete ground truth")
    parser.add_argument(
        "--thresholds", type=thresholds, default=THRESHOLDS, metavar="T[,T...]", help="default: %(default)s"
    )
    parser.add_argument("--stability", type=int, default=0, metavar="N", help="images whose variants are compared")
    parser.add_argument("--device", default="auto")
    return parser.parse_args(arguments)


def evaluate(segmenter: Segmenter, model: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Return all figures of one model: by threshold, and which threshold is the best."""
    default = SegmentParameters().threshold
    values = tuple(sorted({*chosen.thresholds, default}))
    things = [make_task(read_dataset(folder), model, values) for folder in chosen.things]
    by_threshold = {
        str(value): figures for value, figures in zip(values, evaluate_things(segmenter, things), strict=True)
    }
    report: dict[str, Any] = {
        "default": str(default),
        "best": max(by_threshold, key=lambda value: by_threshold[value]["pq"] or 0),
        "things": by_threshold,
    }
    if chosen.coco_panoptic:
        task = make_task(read_dataset(chosen.coco_panoptic), model, values)
        report["panoptic"] = evaluate_panoptic(segmenter, task)
    if chosen.stability:
        files = [record.image for task in things for record in task.dataset.images][: chosen.stability]
        report["stability"] = {
            value: evaluate_stability(segmenter, files, float(value))
            for value in dict.fromkeys((report["default"], report["best"]))
        }
    return report


def make_task(dataset: Dataset, model: str, values: Sequence[float]) -> Task:
    vocabulary = match_vocabulary(read_model_labels(model), dataset.names, {})
    return Task(dataset, vocabulary, tuple(SegmentParameters(threshold=one) for one in values))


def evaluate_things(segmenter: Segmenter, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Return the figures of things at each threshold, over the images of all tasks, whose classes are the same.

    Raises:
        BadDataset: the classes differ.
    """
    if len({task.dataset.names for task in tasks}) > 1:
        raise BadDataset("The folders have different categories.")
    observed: list[list[Observation]] = [[] for _ in tasks[0].settings]
    for task in tasks:
        for record, results in segment_images(segmenter, task):
            for one, observation in zip(observed, observe_image(record, results, task), strict=True):
                one.append(observation)
        print_progress(f"report: {segmenter.model}, {len(observed[0])} images")
    return [compute_figures(observations, tasks[0]) for observations in observed]


def observe_image(record: ImageRecord, results: Sequence[Segmentation], task: Task) -> list[Observation]:
    """Compare the results of one image at each threshold with its ground truth."""
    truth, classes = read_truth(record), len(task.dataset.names)
    labels = [label for names in GROUPS.values() for label in find_labels(task.dataset, names)]
    [person] = find_labels(task.dataset, GROUPS["people"])
    marked = mark_small_as_crowd(truth, labels, LARGE)
    observations = []
    for result in results:
        found = convert_segmentation(result, task.vocabulary, task.dataset.is_thing, merges_stuff=True)
        observations.append(
            Observation(
                plain=tally(truth, found, classes),
                large=tally(marked, found, classes),
                pieces=count_pieces(truth, found, person, VERY_LARGE),
                certain=record.certain,
            )
        )
    return observations


def find_labels(dataset: Dataset, names: Sequence[str]) -> list[int]:
    """Return the indices of classes.

    Raises:
        BadDataset: the dataset lacks one.
    """
    if missing := [name for name in names if name not in dataset.names]:
        raise BadDataset(f"There is no category {', '.join(missing)}.")
    return [dataset.names.index(name) for name in names]


def compute_figures(observations: Sequence[Observation], task: Task) -> dict[str, Any]:
    """Return the figures at one threshold; each is over the images that are annotated exhaustively for it."""
    figures: dict[str, Any] = {}
    for group, names in GROUPS.items():
        labels = find_labels(task.dataset, names)
        counted = count_matches([one.large for one in observations if is_complete(one, labels)], labels)
        low, high = share_interval(counted.matched, counted.things)
        figures[group] = asdict(counted) | {
            "share": counted.share,
            "share_95": [low, high],
            "wrong_per_match": counted.wrong_per_match if counted.matched else None,
        }
    pieces = sum_pieces([one.pieces for one in observations])
    figures["pieces"] = asdict(pieces) | {"share": pieces.share}
    known = np.flatnonzero(task.is_known & task.dataset.is_thing).tolist()
    complete = [one.plain for one in observations if is_complete(one, known)]
    figures["pq"] = compute_quality(complete, task)["things"]["pq"] if complete else None
    return figures


def is_complete(one: Observation, labels: Sequence[int]) -> bool:
    return one.certain is None or one.certain.issuperset(labels)


def compute_quality(tallies: Sequence[Tally], task: Task) -> dict[str, dict[str, float]]:
    """Return PQ, SQ and RQ of the classes that the model has: of all, of things, and of stuff."""
    figures = averages(total(tallies), is_known=task.is_known, is_thing=task.dataset.is_thing)
    return {
        part: {name: float(figures["known", part, name]) for name in ("pq", "sq", "rq")}
        for part in ("all", "things", "stuff")
    }


def evaluate_panoptic(segmenter: Segmenter, task: Task) -> dict[str, Any]:
    """Return the panoptic quality at each threshold."""
    return {
        str(setting.threshold): compute_quality(tallies, task)
        for setting, tallies in zip(task.settings, tally_images(segmenter, task), strict=True)
    }


def evaluate_stability(segmenter: Segmenter, files: Sequence[Path], threshold: float) -> Mapping[str, Any]:
    """Compare the results of images with those of their variants."""

    def segment(image: Image.Image) -> Segmentation:
        [result] = segmenter.segment([prepare_image(segmenter, image, SegmentParameters(threshold=threshold))])
        return require_segmentation(result)

    comparisons = []
    for number, file in enumerate(files, start=1):
        comparisons.append(compare_variants(decode(file.read_bytes(), max_pixels=MAX_PIXELS), segment))
        if number % 10 == 0:
            print_progress(f"stability: {number} of {len(files)}")
    return summarize(comparisons)


def describe_settings(chosen: argparse.Namespace, segmenter: Segmenter) -> dict[str, Any]:
    return {
        "model": segmenter.model,
        "revision": segmenter.revision,
        "things": [folder.resolve().name for folder in chosen.things],
        "panoptic": chosen.coco_panoptic.resolve().name if chosen.coco_panoptic else None,
    }


if __name__ == "__main__":
    # The log of the engine goes to stderr: stdout has the figures only.
    configure_logging(Settings(log_level="error"), process="evaluation")
    sys.exit(main(sys.argv[1:]))
