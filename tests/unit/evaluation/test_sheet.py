"""The contact sheet shows every image beside its overlay."""

from pathlib import Path

import pytest
from PIL import Image

from tests.evaluation import sheet
from tests.support.images import astronaut, cat


def test_every_image_stands_beside_its_overlay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    for name, image in (("1", astronaut()), ("2", cat()), ("3", cat()), ("4", cat())):
        image.save(tmp_path / "images" / f"{name}.png")
    out = tmp_path / "sheet.png"

    assert sheet.main(["--images", str(tmp_path / "images"), "--out", str(out)]) == 0

    with Image.open(out) as opened:
        made = opened.convert("RGB")
    assert made.size == (3 * 2 * sheet.TILE[0], 2 * (sheet.TILE[1] + sheet.CAPTION))
    image, overlay = made.crop((0, 14, 240, 254)), made.crop((320, 14, 560, 254))
    assert image.tobytes() != overlay.tobytes()
    progress = capsys.readouterr().err
    assert "1: " in progress
    assert "person" in progress
    assert "cat" in progress


def test_the_number_of_images_is_limited(tmp_path: Path) -> None:
    for name in "123":
        cat().save(tmp_path / f"{name}.png")
    out = tmp_path / "out.jpg"

    sheet.main(["--images", str(tmp_path), "--max-images", "1", "--out", str(out)])

    with Image.open(out) as made:
        assert made.size == (2 * sheet.TILE[0], sheet.TILE[1] + sheet.CAPTION)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no images"):
        sheet.main(["--images", str(tmp_path), "--out", str(tmp_path / "sheet.png")])
