"""The report has the figures of models side by side, of what each image is annotated for."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.evaluation import report
from tests.evaluation.report_table import format_report
from tests.support.images import admiral, astronaut

NAMES = [*(name for names in report.GROUPS.values() for name in names), "no certain category"]
PERSON, ELSE = 0, len(NAMES) - 1


def write_dataset(folder: Path, certain: Sequence[int]) -> Path:
    """Write a dataset of two portraits, each with a person who fills the middle."""
    for name in ("images", "panoptic"):
        (folder / name).mkdir(parents=True)
    annotations = []
    for number, portrait in enumerate((astronaut(), admiral()), start=1):
        image = portrait.resize((300, 400))
        truth = np.full((400, 300, 3), (2, 0, 0), np.uint8)
        truth[100:, 60:240, 0] = 1
        image.save(folder / "images" / f"{number}.jpg")
        Image.fromarray(truth).save(folder / "panoptic" / f"{number}.png")
        segments = [{"id": 1, "category_id": PERSON}, {"id": 2, "category_id": ELSE}]
        annotations.append(
            {"image_id": number, "file_name": f"{number}.png", "segments_info": segments, "certain": list(certain)}
        )
    index = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2)],
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "isthing": int(number != ELSE)} for number, name in enumerate(NAMES)
        ],
    }
    (folder / "panoptic.json").write_text(json.dumps(index))
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[dict[str, Any], str]:
    """Return the figures of the only model, and the table."""
    assert report.main([str(one) for one in arguments]) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out)["figures"], printed.err


def test_a_model_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_dataset(tmp_path, range(ELSE))

    figures, table = run(
        capsys, "--things", folder, "--coco-panoptic", folder, "--thresholds", "0.5", "--stability", "1"
    )

    people = figures["things"]["0.5"]["people"]
    assert people["things"] == 2
    assert people["matched"] >= 1
    assert figures["things"]["0.5"]["cars"]["things"] == 0
    assert figures["things"]["0.5"]["pieces"]["things"] == 2
    assert set(figures["things"]) == set(figures["panoptic"]) == {"0.5", "0.9"}
    assert figures["default"] == "0.9"
    assert 0 < figures["panoptic"]["0.5"]["things"]["pq"] <= 1
    assert 0.5 < figures["stability"]["0.9"]["agreement"] <= 1
    assert "embedded 0.9" in table
    assert "people over 2 % matched" in table


def test_a_class_is_counted_only_where_it_is_annotated_exhaustively(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people_only, all_things = write_dataset(tmp_path / "a", [PERSON]), write_dataset(tmp_path / "b", range(ELSE))

    both, _ = run(capsys, "--things", people_only, all_things, "--thresholds", "0.5")
    alone, _ = run(capsys, "--things", all_things, "--thresholds", "0.5")

    only, table = run(capsys, "--things", people_only, "--thresholds", "0.5")

    assert only["things"]["0.5"]["pq"] is None
    assert "PQ of things                    -" in table
    assert both["things"]["0.5"]["people"]["things"] == 4
    for name in ("cars", "animals", "pq"):
        assert both["things"]["0.5"][name] == alone["things"]["0.5"][name]


def test_the_best_threshold_stands_beside_the_default() -> None:
    group = {"things": 2, "matched": 1, "wrong": 0, "share": 0.5, "share_95": [0.1, 0.9], "wrong_per_match": 0.0}
    figures = {"people": group, "cars": group, "animals": group | {"wrong_per_match": None}}
    pieces = {"things": 2, "found": 1, "whole": 1, "share": 1.0}
    by_threshold = {value: {**figures, "pieces": pieces, "pq": pq} for value, pq in (("0.5", 0.25), ("0.9", 0.2))}

    table = format_report({"new": {"default": "0.9", "best": "0.5", "things": by_threshold}})

    header, first, *_ = table.splitlines()
    assert header.split("  ")[-1].strip() == "new 0.5 (best)"
    assert first.count("1 of 2, 50.0 (10.0 to 90.0)") == 2
    assert "25.0" in table


def test_folders_of_other_categories_are_refused(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, range(ELSE))
    (folder / "panoptic.json").write_text((folder / "panoptic.json").read_text().replace('"car"', '"cart"'))

    with pytest.raises(SystemExit, match="There is no category car"):
        report.main(["--things", str(folder)])
