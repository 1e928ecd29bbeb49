"""How good a model's masks are:  python -m tests.evaluation.panoptic_quality --model embedded --coco-panoptic DIR

Segments photos through the worker's engine and compares with COCO's panoptic truth.  Prints one JSON line with every
figure in [0, 1], and the middle 95 % of it when the photos are drawn anew.
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
from tests.bench.measurement import Measurement, device_name, print_progress
from tests.evaluation.quality import (
    Bools,
    Figure,
    Floats,
    PanopticMap,
    Tally,
    averages,
    by_class,
    intervals,
    tally,
    total,
)
from tests.evaluation.quality_data import (
    BadDataset,
    Dataset,
    Photo,
    Vocabulary,
    found_in,
    read_dataset,
    read_names,
    truth_of,
    vocabulary,
)
from worker.engine.classes import get_class_names
from worker.engine.execution_plan import Dtype, ExecutionOptions, Forward
from worker.engine.loader import load_segmenter
from worker.engine.model_files import find_model_files
from worker.pipeline.decode import decode
from worker.segmenter import Segmentation, Segmenter

MAX_PIXELS: Final = 100_000_000
DRAWS: Final = 1000
DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Task:
    """What to segment, and how its results are read."""

    dataset: Dataset
    words: Vocabulary
    settings: tuple[SegmentParameters, ...]
    batch: int = 4
    merges_stuff: bool = True

    @property
    def is_known(self) -> Bools:
        return self.words.known(len(self.dataset.names))


def main(arguments: Sequence[str]) -> int:
    """Measure one model on one folder; what cannot be loaded ends it with a sentence."""
    chosen = parsed(arguments)
    try:
        segmenter, task = prepared(chosen)
        tallies = measured(segmenter, task)
    except (MaskmillError, BadDataset) as error:
        raise SystemExit(str(error)) from error
    figures = {
        f"{one.threshold:g}": figures_of(counted, task, per_class=chosen.per_class)
        for one, counted in zip(task.settings, tallies, strict=True)
    }
    settings = described(chosen, segmenter, task)
    print(Measurement("panoptic_quality", settings, figures, device_name(segmenter.device)).to_json(), flush=True)
    if not chosen.json:
        print_progress(table(figures))
    return 0


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    usual = SegmentParameters()
    parser = argparse.ArgumentParser(prog="python -m tests.evaluation.panoptic_quality", description=__doc__)
    parser.add_argument("--model", default="embedded", help="as MASKMILL_MODEL has it")
    parser.add_argument("--coco-panoptic", type=Path, required=True, metavar="DIR", help="photos with their truth")
    parser.add_argument("--images", type=at_least_one, metavar="N", help="only the first N photos")
    parser.add_argument(
        "--threshold",
        type=thresholds,
        default=str(usual.threshold),
        metavar="T[,T...]",
        help="least score of a segment; each one more is a pass of the network more (default: %(default)s)",
    )
    parser.add_argument("--overlap", type=float, default=usual.overlap_mask_area_threshold, help="default: %(default)s")
    parser.add_argument("--names", type=Path, metavar="FILE", help="JSON: a name of the model to one of the dataset")
    parser.add_argument("--stuff-apart", action="store_true", help="leave several segments of one kind of stuff apart")
    parser.add_argument("--batch", type=at_least_one, default=4)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--forward", default="auto", choices=get_args(Forward))
    parser.add_argument("--dtype", default="auto", choices=get_args(Dtype))
    parser.add_argument("--per-class", action="store_true", help="the figures of each class as well")
    parser.add_argument("--json", action="store_true", help="only the JSON line, and no table on stderr")
    return parser.parse_args(arguments)


def prepared(chosen: argparse.Namespace) -> tuple[Segmenter, Task]:
    """Load what was chosen.

    Raises:
        ModelUnusable: not the model.
        BadDataset: not the photos, or not the names.
    """
    dataset = read_dataset(chosen.coco_panoptic)
    dataset = replace(dataset, photos=dataset.photos[: chosen.images])
    renamed = read_names(chosen.names) if chosen.names else {}
    options = ExecutionOptions(forward=chosen.forward, dtype=chosen.dtype, max_images=chosen.batch)
    segmenter = load_segmenter(
        chosen.model,
        public_id=chosen.model,
        device=chosen.device,
        cache=Path(),
        download=nothing_to_fetch,
        options=options,
    )
    words = vocabulary(labels_of(chosen.model), dataset.names, renamed)
    if words.unmatched:
        print_progress(f"The dataset has no class named {', '.join(words.unmatched)}; see --names.")
    settings = tuple(
        SegmentParameters(threshold=one, overlap_mask_area_threshold=chosen.overlap) for one in chosen.threshold
    )
    return segmenter, Task(dataset, words, settings, batch=chosen.batch, merges_stuff=not chosen.stuff_apart)


def labels_of(model: str) -> dict[int, str]:
    """Return the names of a model that was loaded, by number."""
    files = find_model_files(model, cache=Path(), download=nothing_to_fetch)
    return get_class_names(AutoConfig.from_pretrained(files.folder, local_files_only=True))


def nothing_to_fetch(source: str, _into: Path) -> None:
    raise ModelUnusable(f"Fetch {source} first, and name the folder.")


def measured(
    segmenter: Segmenter, task: Task, asked: Callable[[PanopticMap], PanopticMap] = lambda truth: truth
) -> list[list[Tally]]:
    """Compare every photo's result with its truth.

    Args:
        asked: makes of a truth what is asked for.

    Returns:
        for each of the task's settings the tallies of its photos.

    Raises:
        MaskmillError: a photo could not be segmented.
        BadDataset: a photo and its truth are not of one size.
    """
    tallies: list[list[Tally]] = [[] for _ in task.settings]
    for done, (photo, results) in enumerate(segmented(segmenter, task), start=1):
        truth = asked(truth_of(photo))
        for counted, result in zip(tallies, results, strict=True):
            if result.label_map.shape != truth.ids.shape:
                raise BadDataset(f"{photo.image.name} is not of the size of its truth.")
            found = found_in(result, task.words, task.dataset.is_thing, merges_stuff=task.merges_stuff)
            counted.append(tally(truth, found, len(task.dataset.names)))
        if done % 10 == 0 or done == len(task.dataset.photos):
            print_progress(f"panoptic_quality: {done} of {len(task.dataset.photos)}")
    return tallies


def segmented(segmenter: Segmenter, task: Task) -> Iterator[tuple[Photo, list[Segmentation]]]:
    """Yield each photo with its result for each of the settings, from batches of one setting."""
    photos = task.dataset.photos
    for first in range(0, len(photos), task.batch):
        part = photos[first : first + task.batch]
        images = [decode(photo.image.read_bytes(), max_pixels=MAX_PIXELS) for photo in part]
        ready = [segmenter.prepare(image, task.settings[0]) for image in images]
        by_setting = [
            segmenter.segment([replace(item, parameters=wanted) for item in ready]) for wanted in task.settings
        ]
        for photo, *results in zip(part, *by_setting, strict=True):
            yield photo, [sound(result) for result in results]


def sound(result: Segmentation | MaskmillError) -> Segmentation:
    if isinstance(result, MaskmillError):
        raise result
    return result


def figures_of(tallies: Sequence[Tally], task: Task, *, per_class: bool) -> dict[str, Any]:
    """Return the figures of one setting, `NAME_95` beside each that the choice of photos moves."""

    def averaged(counted: Tally) -> Mapping[Figure, Floats]:
        return averages(counted, is_known=task.is_known, is_thing=task.dataset.is_thing)

    spread = intervals(tallies, averaged, draws=DRAWS)
    counted = total(tallies)
    figures: dict[str, Any] = {}
    for (way, part, name), value in averaged(counted).items():
        place = figures.setdefault(way, {}).setdefault(part, {})
        if name == "classes":
            place[name] = int(value)
        else:
            place |= {name: said(float(value)), f"{name}_95": [said(one) for one in spread[way, part, name]]}
    return figures | ({"by_class": classes_of(counted, task)} if per_class else {})


def classes_of(counted: Tally, task: Task) -> dict[str, dict[str, Any]]:
    """Return the figures of each class that is in the truth or was found."""
    figures, is_known = by_class(counted), task.is_known
    return {
        name: {figure: said(float(values[number])) for figure, values in figures.items()}
        | {count: int(getattr(counted, count)[number]) for count in ("hits", "wrong", "missed")}
        | {"known": bool(is_known[number])}
        for number, name in enumerate(task.dataset.names)
        if not all(math.isnan(values[number]) for values in figures.values())
    }


def said(value: float) -> float | None:
    """Round a figure; what could not be measured is null."""
    return None if math.isnan(value) else round(value, DIGITS)


def described(chosen: argparse.Namespace, segmenter: Segmenter, task: Task) -> dict[str, Any]:
    """Say under which settings the figures came out."""
    return {
        "model": segmenter.model,
        "revision": segmenter.revision,
        "dataset": chosen.coco_panoptic.resolve().name,
        "images": len(task.dataset.photos),
        "known_classes": int(np.count_nonzero(task.is_known)),
        "unmatched_names": list(task.words.unmatched),
        "overlap": chosen.overlap,
        "stuff": "merged" if task.merges_stuff else "apart",
        "batch": task.batch,
        "forward": chosen.forward,
        "dtype": chosen.dtype,
    }


def table(figures: Mapping[str, Any]) -> str:
    """Lay the figures out for somebody who reads them, in per cent as COCO's are."""
    lines = []
    for threshold, ways in figures.items():
        pixels = ways["pixels"]
        lines.append(
            f"threshold {threshold}: pixel accuracy {percent(pixels['all']['accuracy'])},"
            f" of known classes {percent(pixels['known']['accuracy'])}"
        )
        lines.append(f"{'classes':<18}{'PQ':>6}{'95 %':>14}{'SQ':>7}{'RQ':>7}{'mIoU':>7}{'n':>5}")
        for way in ("seen", "in_truth", "known"):
            lines += [row(f"{way} {part}", measures) for part, measures in ways[way].items()]
        lines += [class_row(name, one) for name, one in ways.get("by_class", {}).items()]
    return "\n".join(lines)


def row(name: str, measures: Mapping[str, Any]) -> str:
    low, high = (percent(one) for one in measures["pq_95"])
    tail = "".join(f"{percent(measures[one]):>7}" for one in ("sq", "rq", "miou"))
    return f"{name:<18}{percent(measures['pq']):>6}{f'{low} to {high}':>14}{tail}{measures['classes']:>5}"


def class_row(name: str, measures: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{measures[one]} {one}" for one in ("hits", "wrong", "missed"))
    return f"  {name:<24}PQ {percent(measures['pq']):>5}  {counts}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def thresholds(text: str) -> tuple[float, ...]:
    """Read numbers in [0, 1] with commas between them."""
    numbers = tuple(dict.fromkeys(float(one) for one in text.split(",")))
    if not all(0 <= one <= 1 for one in numbers):
        raise ValueError(text)
    return numbers


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
