"""Whether a model tells things of one kind apart:

    python -m tests.evaluation.apart --model embedded --coco-panoptic DIR --category person

Counts the things of a class that cover a share of their photo, how many of them have a segment of their own (by COCO's
rule: they overlap by more than half of their union), and in how many of the photos that show several, two or more have.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from shared.errors import MaskmillError
from shared.jobs.parameters import SegmentParameters
from tests.bench.measurement import Measurement, device_name
from tests.evaluation.panoptic_quality import Task, labels_of, measured, nothing_to_fetch, thresholds
from tests.evaluation.quality import PanopticMap, Tally
from tests.evaluation.quality_data import BadDataset, read_dataset, vocabulary
from worker.engine.loader import load_segmenter

SEVERAL: Final = 2


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one class in all photos.

    things: large enough ones.  found: of these.  wrong: segments that match nothing, nor lie on smaller things.
    several: photos with two things or more.  two_found: those of them in which two or more were found.
    """

    things: int
    found: int
    wrong: int
    several: int
    two_found: int


def main(arguments: Sequence[str]) -> int:
    """Count in one folder with one model; what cannot be loaded ends it with a sentence."""
    chosen = parsed(arguments)
    try:
        return measure(chosen)
    except (MaskmillError, BadDataset) as error:
        raise SystemExit(str(error)) from error


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.evaluation.apart", description="Count things one by one.")
    parser.add_argument("--model", default="embedded", help="as MASKMILL_MODEL has it")
    parser.add_argument("--coco-panoptic", type=Path, required=True, metavar="DIR", help="photos with their truth")
    parser.add_argument("--category", required=True, metavar="NAME", help="as the photos' truth has it")
    parser.add_argument(
        "--least",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="of its photo that a thing covers (default: %(default)s)",
    )
    parser.add_argument(
        "--threshold",
        type=thresholds,
        default="0.5",
        metavar="T[,T...]",
        help="least score of a segment (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto")
    return parser.parse_args(arguments)


def measure(chosen: argparse.Namespace) -> int:
    dataset = read_dataset(chosen.coco_panoptic)
    if chosen.category not in dataset.names:
        raise BadDataset(f"{chosen.coco_panoptic} has no category {chosen.category}.")
    wanted = dataset.names.index(chosen.category)
    segmenter = load_segmenter(
        chosen.model, public_id=chosen.model, device=chosen.device, cache=Path(), download=nothing_to_fetch
    )
    task = Task(
        dataset=dataset,
        words=vocabulary(labels_of(chosen.model), dataset.names, {}),
        settings=tuple(SegmentParameters(threshold=one) for one in chosen.threshold),
    )
    by_setting = measured(segmenter, task, asked=lambda truth: large_only(truth, wanted, chosen.least))
    figures = {
        f"{one.threshold:g}": asdict(counts(tallies, wanted))
        for one, tallies in zip(task.settings, by_setting, strict=True)
    }
    settings = {
        "model": segmenter.model,
        "revision": segmenter.revision,
        "dataset": chosen.coco_panoptic.resolve().name,
        "images": len(dataset.photos),
        "category": chosen.category,
        "least": chosen.least,
    }
    print(Measurement("apart", settings, figures, device_name(segmenter.device)).to_json(), flush=True)
    return 0


def large_only(truth: PanopticMap, wanted: int, least: float) -> PanopticMap:
    """Make crowds of the things of one class that are smaller than a share of the photo: they are not asked for."""
    regions = tuple(
        replace(one, is_crowd=True) if one.label == wanted and (truth.ids == one.id).mean() < least else one
        for one in truth.regions
    )
    return PanopticMap(truth.ids, regions)


def counts(tallies: Iterable[Tally], wanted: int) -> Counts:
    """Add up what was found of one class in the photos."""
    rows = [tuple(int(kind[wanted]) for kind in (one.hits, one.missed, one.wrong)) for one in tallies]
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
