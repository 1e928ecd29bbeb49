"""Instance separation counts large things, those with a segment of their own, and wrong segments."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation import apart
from tests.evaluation.apart import Counts, count_things
from tests.evaluation.quality import PanopticMap, Region, tally
from tests.evaluation.things import mark_small_as_crowd
from tests.support.images import admiral, astronaut

CAR, ROAD = 0, 1


def street(*cars: tuple[int, int]) -> PanopticMap:
    """Return a map of 1 x 100 pixels: cars from column to column, on road."""
    ids = np.full((1, 100), 100)
    for number, (left, right) in enumerate(cars, start=1):
        ids[:, left:right] = number
    regions = [Region(number, CAR) for number in range(1, len(cars) + 1)]
    return PanopticMap(ids, (*regions, Region(100, ROAD)))


def evaluate(*pairs: tuple[PanopticMap, PanopticMap]) -> Counts:
    return count_things([tally(mark_small_as_crowd(truth, [CAR], 0.05), found, 2) for truth, found in pairs], CAR)


def test_two_cars_in_one_segment_are_not_separated() -> None:
    truth = street((0, 20), (20, 40))

    assert evaluate((truth, street((0, 40)))) == Counts(things=2, found=0, wrong=1, several=1, two_found=0)
    assert evaluate((truth, street((0, 21), (21, 40)))) == Counts(things=2, found=2, wrong=0, several=1, two_found=1)


def test_a_car_in_pieces_is_found_once_at_most() -> None:
    assert evaluate((street((0, 20)), street((0, 12), (12, 20)))) == Counts(1, found=1, wrong=1, several=0, two_found=0)
    assert evaluate((street((0, 20)), street((0, 10), (10, 20)))) == Counts(1, found=0, wrong=2, several=0, two_found=0)


def test_small_cars_are_neither_missed_nor_wrong() -> None:
    small = street((0, 20), (60, 64))

    assert evaluate((small, street((0, 20), (60, 64)))) == Counts(1, found=1, wrong=0, several=0, two_found=0)
    assert evaluate((small, street((0, 20)))) == Counts(1, found=1, wrong=0, several=0, two_found=0)


def test_counts_are_summed_over_the_images() -> None:
    two, one = street((0, 20), (30, 50)), street((0, 20))

    assert evaluate((two, two), (two, one), (one, two)) == Counts(things=5, found=4, wrong=1, several=2, two_found=1)


@pytest.fixture
def portraits(tmp_path: Path) -> Path:
    """A dataset of one image: two portraits side by side, each half a person."""
    for name in ("images", "panoptic"):
        (tmp_path / name).mkdir()
    halves = [portrait.resize((300, 400)) for portrait in (astronaut(), admiral())]
    image, truth = Image.new("RGB", (600, 400)), np.zeros((400, 600, 3), np.uint8)
    for number, half in enumerate(halves):
        image.paste(half, (300 * number, 0))
        truth[:, 300 * number : 300 * (number + 1), 0] = number + 1
    image.save(tmp_path / "images" / "1.png")
    Image.fromarray(truth).save(tmp_path / "panoptic" / "1.png")
    index = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [
            {"image_id": 1, "file_name": "1.png", "segments_info": [{"id": n, "category_id": 1} for n in (1, 2)]}
        ],
        "categories": [{"id": 1, "name": "person", "isthing": 1}],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(index))
    return tmp_path


def test_a_model_is_evaluated_on_a_folder(portraits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--coco-panoptic", str(portraits), "--category", "person", "--threshold", "0.5,0.9"]

    assert apart.main(arguments) == 0

    line = json.loads(capsys.readouterr().out)
    assert line["settings"]["images"] == 1
    assert set(line["figures"]) == {"0.5", "0.9"}
    assert line["figures"]["0.5"] | {"found": 0, "wrong": 0, "two_found": 0} == {
        "things": 2,
        "found": 0,
        "wrong": 0,
        "several": 1,
        "two_found": 0,
    }


def test_an_unknown_category_is_refused(portraits: Path) -> None:
    with pytest.raises(SystemExit, match="has no category zebra"):
        apart.main(["--coco-panoptic", str(portraits), "--category", "zebra"])
