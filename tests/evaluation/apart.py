"""Instance separation: how many things of one class have a segment of their own.

    python -m tests.evaluation.apart --model embedded --coco-panoptic DIR --category person

Counts the things of a class that cover a minimum share of their image, how many of them match a segment (by COCO's
rule: an intersection over union above one half), and how many images with several such things have two or more matches.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from shared.errors import MaskmillError
from shared.jobs.parameters import SegmentParameters
from tests.bench.measurement import Measurement, device_name
from tests.evaluation.panoptic_quality import Task, read_model_labels, refuse_download, tally_images, thresholds
from tests.evaluation.quality import Tally
from tests.evaluation.quality_data import BadDataset, match_vocabulary, read_dataset
from tests.evaluation.things import mark_small_as_crowd
from worker.engine.loader import load_segmenter

SEVERAL: Final = 2


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of one class over all images.

    things: those of at least the minimum share of their image.
    found: things that match a segment.
    wrong: segments that neither match a thing nor lie on smaller things.
    several: images with at least two things.
    two_found: images with at least two things found.
    """

    things: int
    found: int
    wrong: int
    several: int
    two_found: int


def main(arguments: Sequence[str]) -> int:
    """Evaluate one model on one folder and return the exit status.

    Raises:
        SystemExit: the model or the images cannot be used; with the reason.
    """
    chosen = parse_arguments(arguments)
    try:
        return measure(chosen)
    except (MaskmillError, BadDataset) as error:
        raise SystemExit(str(error)) from error


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.evaluation.apart", description="Measure instance separation."
    )
    parser.add_argument("--model", default="embedded", help="as MASKMILL_MODEL has it")
    parser.add_argument(
        "--coco-panoptic", type=Path, required=True, metavar="DIR", help="images with their ground truth"
    )
    parser.add_argument("--category", required=True, metavar="NAME", help="as the ground truth has it")
    parser.add_argument(
        "--min-share",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="minimum share of its image that a thing covers (default: %(default)s)",
    )
    parser.add_argument(
        "--threshold",
        type=thresholds,
        default="0.5",
        metavar="T[,T...]",
        help="minimum score of a segment (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto")
    return parser.parse_args(arguments)


def measure(chosen: argparse.Namespace) -> int:
    dataset = read_dataset(chosen.coco_panoptic)
    if chosen.category not in dataset.names:
        raise BadDataset(f"{chosen.coco_panoptic} has no category {chosen.category}.")
    label = dataset.names.index(chosen.category)
    segmenter = load_segmenter(
        chosen.model, public_id=chosen.model, device=chosen.device, cache=Path(), download=refuse_download
    )
    task = Task(
        dataset=dataset,
        vocabulary=match_vocabulary(read_model_labels(chosen.model), dataset.names, {}),
        settings=tuple(SegmentParameters(threshold=one) for one in chosen.threshold),
    )
    by_setting = tally_images(
        segmenter, task, transform_truth=lambda truth: mark_small_as_crowd(truth, [label], chosen.min_share)
    )
    figures = {
        f"{one.threshold:g}": asdict(count_things(tallies, label))
        for one, tallies in zip(task.settings, by_setting, strict=True)
    }
    settings = {
        "model": segmenter.model,
        "revision": segmenter.revision,
        "dataset": chosen.coco_panoptic.resolve().name,
        "images": len(dataset.images),
        "category": chosen.category,
        "min_share": chosen.min_share,
    }
    print(Measurement("apart", settings, figures, device_name(segmenter.device)).to_json(), flush=True)
    return 0


def count_things(tallies: Iterable[Tally], label: int) -> Counts:
    """Sum the counts of one class over the images."""
    rows = [tuple(int(counts[label]) for counts in (one.hits, one.missed, one.wrong)) for one in tallies]
    several = [hits for hits, missed, _ in rows if hits + missed >= SEVERAL]
    return Counts(
        things=sum(hits + missed for hits, missed, _ in rows),
        found=sum(hits for hits, _, _ in rows),
        wrong=sum(wrong for _, _, wrong in rows),
        several=len(several),
        two_found=sum(hits >= SEVERAL for hits in several),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
