"""What the files of annotation tools hold beside pixels: text of any kind, photos, and bounds of their encodings."""

import io
import json
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.formats.registry import FORMATS
from tests.support.brush import decode_brush
from tests.support.jobs import segment_checkers
from tests.support.label_maps import build_label_maps, build_segmentation
from worker.formats import all as archive
from worker.formats import brush, cvat, overlay_webp, panoptic_png, yolo
from worker.formats.outlines import Outline
from worker.formats.rendered import RenderSource
from worker.formats.runs import NO_RUNS, find_runs
from worker.formats.xml_text import clean_xml_text
from worker.segmenter import Segmentation


def build_labeled(label: str) -> RenderSource:
    segmentation = build_segmentation(np.ones((2, 3), np.uint8))
    segments = tuple(replace(segment, label=label) for segment in segmentation.segments)
    return RenderSource(Segmentation(segmentation.label_map, segments), file_name="photo.jpg")


@given(label=st.text(st.characters(codec="utf-8"), max_size=20))
def test_cvat_xml_holds_any_label(label: str) -> None:
    root = ElementTree.fromstring(cvat.render(build_labeled(label)).content)

    assert root.find("image/mask").get("label") == clean_xml_text(label)
    assert len(clean_xml_text(label)) == len(label)


@pytest.mark.parametrize("label", ["猫", 'say "hi"', "<a & b>", "O'Neil", "two\nlines", " blanks "])
def test_text_that_xml_can_hold_stays_as_it_is(label: str) -> None:
    assert clean_xml_text(label) == label
    assert ElementTree.fromstring(cvat.render(build_labeled(label)).content).find("image/mask").get("label") == label


@pytest.mark.parametrize("label", ["\0", "\x1b", "\ufffe", "\ud800"])
def test_text_that_xml_cannot_hold_is_replaced(label: str) -> None:
    assert clean_xml_text(f"a{label}b") == "a\ufffdb"


@given(
    lengths=st.lists(st.one_of(st.integers(1, 40), st.integers(16_000, 40_000)), min_size=1, max_size=8),
    is_first_inside=st.booleans(),
)
def test_a_brush_of_runs_of_any_length_is_decoded(lengths: list[int], is_first_inside: bool) -> None:
    mask = np.repeat((np.arange(len(lengths)) + is_first_inside) % 2, lengths).astype(np.uint8)
    runs = find_runs(mask[None]).get(1, NO_RUNS)

    decoded = decode_brush(brush.encode_brush(runs, mask.size).tolist())

    assert np.array_equal(decoded, np.repeat(255 * mask, 4))


@pytest.mark.parametrize("ids", [[1, 255], [1, 256, 300, 65_535]])
def test_panoptic_ids_take_as_many_channels_as_they_need(ids: list[int]) -> None:
    label_map = np.array([ids], np.uint8 if max(ids) < 256 else np.uint16)

    png = np.asarray(Image.open(io.BytesIO(panoptic_png.render(RenderSource(Segmentation(label_map, ()))).content)))

    assert (png.astype(int) @ [1, 256, 65_536]).tolist() == [ids]


def test_the_parts_of_a_segment_are_joined_where_they_are_nearest() -> None:
    left = Outline(np.array([[0, 0], [2, 0], [2, 1], [0, 1]]))
    right = Outline(np.array([[9, 0], [5, 0], [5, 1], [9, 1]]))

    joined = yolo.join_parts([left, right]).tolist()

    bridges = [
        (start, end) for start, end in zip(joined, joined[1:] + joined[:1], strict=True) if abs(start[0] - end[0]) == 3
    ]
    assert len(bridges) == 2
    assert sorted(map(sorted, bridges)) in ([[[2, 0], [5, 0]]] * 2, [[[2, 1], [5, 1]]] * 2)


def test_the_webp_overlay_looks_like_the_png() -> None:
    source = RenderSource(build_segmentation(build_label_maps()["blobs"]), Image.new("RGB", (320, 240), (90, 120, 150)))

    opened = Image.open(io.BytesIO(overlay_webp.render(source).content))

    assert (opened.format, opened.size) == ("WEBP", (320, 240))
    assert np.abs(np.asarray(opened.convert("RGB")).astype(int) - source.shared["overlay"]).mean() < 12


def test_all_zip_has_what_can_hold_the_result_and_names_the_rest() -> None:
    file = zipfile.ZipFile(io.BytesIO(archive.render(RenderSource(segment_checkers(720, 720))).content))

    omitted = json.loads(file.read("omitted.json"))

    assert set(omitted) == {"polygons", "geojson", "yolo", "labelstudio", "labelme"}
    assert {one["error_type"] for one in omitted.values()} == {"too_many_corners"}
    assert {"rle.json", "coco.json", "cvat.xml", "hf.json"} <= set(file.namelist())
    assert "polygons.json" not in file.namelist()


def test_all_zip_has_the_overlays_if_the_photo_is_there() -> None:
    source = RenderSource(build_segmentation(np.ones((30, 40), np.uint8)), Image.new("RGB", (40, 30)))

    names = zipfile.ZipFile(io.BytesIO(archive.render(source).content)).namelist()

    assert set(names) == {one.file for one in FORMATS} - {"all.zip"}


def test_equal_segmentations_give_equal_archives() -> None:
    one, other = (RenderSource(build_segmentation(np.eye(9, dtype=np.uint8))) for _ in range(2))

    assert archive.render(one) == archive.render(other)


def test_labels_in_json_are_utf_8() -> None:
    content = zipfile.ZipFile(io.BytesIO(archive.render(build_labeled("猫")).content)).read("coco.json")

    assert json.loads(content)["categories"][0]["name"] == "猫"
    assert "猫".encode() in content
