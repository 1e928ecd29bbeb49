"""The sheet shows every photo beside what was found in it."""

from pathlib import Path

import pytest
from PIL import Image

from tests.evaluation import sheet
from tests.support.images import astronaut, cat


def test_every_photo_stands_beside_its_overlay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for name, photo in (("1", astronaut()), ("2", cat()), ("3", cat()), ("4", cat())):
        photo.save(tmp_path / "photos" / f"{name}.png")
    out = tmp_path / "sheet.png"

    assert sheet.main(["--images", str(tmp_path / "photos"), "--out", str(out)]) == 0

    with Image.open(out) as opened:
        made = opened.convert("RGB")
    assert made.size == (3 * 2 * sheet.TILE[0], 2 * (sheet.TILE[1] + sheet.CAPTION))
    photo, overlay = made.crop((0, 14, 240, 254)), made.crop((320, 14, 560, 254))
    assert photo.tobytes() != overlay.tobytes()
    told = capsys.readouterr().err
    assert "1: " in told
    assert "person" in told
    assert "cat" in told


def test_no_more_photos_than_wanted_are_shown(tmp_path: Path) -> None:
    for name in "123":
        cat().save(tmp_path / f"{name}.png")
    out = tmp_path / "out.jpg"

    sheet.main(["--images", str(tmp_path), "--most", "1", "--out", str(out)])

    with Image.open(out) as made:
        assert made.size == (2 * sheet.TILE[0], sheet.TILE[1] + sheet.CAPTION)


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no images"):
        sheet.main(["--images", str(tmp_path), "--out", str(tmp_path / "sheet.png")])
