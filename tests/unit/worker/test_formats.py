"""Whatever is rendered from a label map must say exactly what the map says."""

import base64
import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from shared.formats.huggingface import hf_array
from shared.jobs.result import Segment
from worker.formats import drawing as overlay
from worker.formats.render import labels_png, mask_png, masks_zip, overlay_png
from worker.segmenter import LabelMap, Segmentation

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
label_maps = st.one_of(
    shapes.flatmap(lambda shape: arrays.arrays(np.uint8, shape, elements=st.integers(0, 5))),
    shapes.flatmap(lambda shape: arrays.arrays(np.uint16, shape, elements=st.integers(0, 300))),
)


def segmentation_of(label_map: LabelMap, *, score: float | None = 0.987654) -> Segmentation:
    ids = [int(number) for number in np.unique(label_map) if number]
    return Segmentation(label_map, tuple(segment_of(label_map, number, score) for number in ids))


def segment_of(label_map: LabelMap, number: int, score: float | None) -> Segment:
    ys, xs = np.nonzero(label_map == number)
    x, y = int(xs.min()), int(ys.min())
    box = (x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1)
    return Segment(id=number, label=f"thing {number}", label_id=number, score=score, area=len(ys), bbox=box)


def reply(segmentation: Segmentation) -> bytes:
    return hf_array(segmentation.segments, *masks_zip(segmentation))


def pixels(png: bytes) -> NDArray[np.generic]:
    return np.asarray(Image.open(io.BytesIO(png)))


@given(label_map=label_maps)
def test_a_label_map_survives_its_png(label_map: LabelMap) -> None:
    decoded = cv2.imdecode(np.frombuffer(labels_png(label_map), np.uint8), cv2.IMREAD_UNCHANGED)

    assert decoded.dtype == label_map.dtype
    assert np.array_equal(decoded, label_map)


@given(label_map=label_maps, number=st.integers(1, 300))
def test_a_mask_is_255_where_the_map_has_its_number_and_0_elsewhere(label_map: LabelMap, number: int) -> None:
    image = Image.open(io.BytesIO(mask_png(label_map, number)))

    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), np.where(label_map == number, 255, 0))


def test_three_hundred_segments_take_sixteen_bits() -> None:
    label_map = np.arange(301, dtype=np.uint16).reshape(7, 43)

    image = Image.open(io.BytesIO(labels_png(label_map)))

    assert image.mode == "I;16"
    assert pixels(mask_png(label_map, 300)).sum() == 255


@settings(deadline=None)
@given(label_map=label_maps)
def test_the_ranges_of_the_zip_are_the_masks(label_map: LabelMap) -> None:
    segmentation = segmentation_of(label_map)

    archive, ranges = masks_zip(segmentation)

    assert list(ranges) == [segment.id for segment in segmentation.segments]
    for number, found in ranges.items():
        assert archive[found.offset : found.offset + found.length] == mask_png(label_map, number)


def test_the_zip_opens_and_its_entries_are_stored() -> None:
    segmentation = segmentation_of(np.array([[0, 1], [2, 2]], np.uint8))

    archive, _ = masks_zip(segmentation)

    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == ["1.png", "2.png"]
        assert {entry.compress_type for entry in opened.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_takes_the_zip(tmp_path: Path) -> None:
    archive, _ = masks_zip(segmentation_of(np.array([[0, 1], [2, 2]], np.uint8)))
    file = tmp_path / "masks.zip"
    file.write_bytes(archive)

    subprocess.run(["unzip", "-q", str(file), "-d", str(tmp_path)], check=True)

    assert pixels((tmp_path / "2.png").read_bytes()).tolist() == [[0, 0], [255, 255]]


def test_equal_segmentations_give_equal_zips() -> None:
    segmentation = segmentation_of(np.eye(5, dtype=np.uint8))

    assert masks_zip(segmentation) == masks_zip(segmentation)


def test_no_segments_give_an_empty_zip_and_an_empty_array() -> None:
    nothing = Segmentation(np.zeros((3, 4), np.uint8), ())

    archive, ranges = masks_zip(nothing)

    assert zipfile.ZipFile(io.BytesIO(archive)).namelist() == []
    assert ranges == {}
    assert hf_array((), archive, ranges) == b"[]"


def test_the_hf_array_has_its_keys_in_order_and_plain_base64_masks() -> None:
    label_map = np.array([[0, 1], [2, 2]], np.uint8)

    answer = json.loads(reply(segmentation_of(label_map, score=0.987654)))

    assert [list(element) for element in answer] == [["score", "label", "mask"]] * 2
    assert [element["label"] for element in answer] == ["thing 1", "thing 2"]
    assert {element["score"] for element in answer} == {0.987654}
    assert pixels(base64.b64decode(answer[1]["mask"], validate=True)).tolist() == [[0, 0], [255, 255]]


def test_a_segment_without_score_says_one() -> None:
    answer = reply(segmentation_of(np.ones((2, 2), np.uint8), score=None))

    assert answer.startswith(b'[{"score":1.0,"label":"thing 1","mask":"')


@settings(deadline=None, max_examples=50)
@given(label_map=label_maps)
def test_an_overlay_has_the_size_of_the_photo(label_map: LabelMap) -> None:
    height, width = label_map.shape
    photo = Image.new("RGB", (width, height), (90, 120, 150))

    drawn = Image.open(io.BytesIO(overlay_png(photo, segmentation_of(label_map))))

    assert (drawn.mode, drawn.size) == ("RGB", (width, height))


def test_the_overlay_of_a_huge_photo_is_scaled_down() -> None:
    label_map = np.zeros((1000, 3 * overlay.LONGEST_SIDE), np.uint8)
    label_map[:, 4000:] = 1
    photo = Image.new("RGB", label_map.shape[::-1])

    drawn = Image.open(io.BytesIO(overlay_png(photo, segmentation_of(label_map))))

    assert drawn.size == (overlay.LONGEST_SIDE, 333)


def test_the_overlay_leaves_alone_what_is_no_segment_and_tints_what_is() -> None:
    label_map = np.zeros((200, 200), np.uint8)
    label_map[:, 100:] = 1
    photo = Image.new("RGB", (200, 200), (90, 120, 150))

    drawn = pixels(overlay_png(photo, segmentation_of(label_map)))

    assert (drawn[:, :95] == (90, 120, 150)).all()
    assert (drawn[5:50, 105:] != (90, 120, 150)).any(axis=2).all()


def test_the_overlay_names_a_large_segment_in_white() -> None:
    photo = Image.new("RGB", (300, 300))

    drawn = pixels(overlay_png(photo, segmentation_of(np.ones((300, 300), np.uint8))))

    assert (drawn[130:170] > 200).all(axis=2).sum() > 50


def test_every_segment_has_a_colour_of_its_own() -> None:
    palette = overlay.colours()

    assert len(np.unique(palette, axis=0)) == 256
    assert palette[0].tolist() == [0, 0, 0]
