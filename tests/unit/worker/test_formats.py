"""Every output format must represent exactly the content of the label map."""

import base64
import io
import json
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from shared.errors import RenderingFailed
from shared.formats.huggingface import hf_array
from shared.images.opening import fit_size
from shared.jobs.result import Segment
from worker.formats import drawing, labels, masks, overlay
from worker.formats.mask_png import RunLengthEncoding
from worker.formats.png import PngStrategy, encode_png
from worker.formats.rendered import Rendered, RenderSource
from worker.pipeline.rendering import load_renderers
from worker.segmenter import LabelMap, Segmentation

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
label_maps = st.one_of(
    shapes.flatmap(lambda shape: arrays.arrays(np.uint8, shape, elements=st.integers(0, 5))),
    shapes.flatmap(lambda shape: arrays.arrays(np.uint16, shape, elements=st.integers(0, 300))),
)


def build_segmentation(label_map: LabelMap, *, score: float | None = 0.987654) -> Segmentation:
    ids = [int(number) for number in np.unique(label_map) if number]
    return Segmentation(label_map, tuple(build_segment(label_map, number, score) for number in ids))


def build_segment(label_map: LabelMap, number: int, score: float | None) -> Segment:
    ys, xs = np.nonzero(label_map == number)
    x, y = int(xs.min()), int(ys.min())
    box = (x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1)
    return Segment(id=number, label=f"thing {number}", label_id=number, score=score, area=len(ys), bbox=box)


def render_labels(label_map: LabelMap) -> bytes:
    return labels.render(RenderSource(Segmentation(label_map, ()))).content


def render_masks(segmentation: Segmentation) -> Rendered:
    return masks.render(RenderSource(segmentation))


def render_overlay(image: Image.Image, label_map: LabelMap) -> bytes:
    return overlay.render(RenderSource(build_segmentation(label_map), image)).content


def encode_mask(label_map: LabelMap, number: int) -> bytes:
    return RunLengthEncoding.from_label_map(label_map).encode_mask_png(number)


def build_hf_array(segmentation: Segmentation) -> bytes:
    rendered = render_masks(segmentation)
    return hf_array(segmentation.segments, rendered.content, rendered.ranges)


def decode_png(png: bytes) -> NDArray[np.generic]:
    return np.asarray(Image.open(io.BytesIO(png)))


@given(label_map=label_maps)
def test_labels_png_decodes_to_the_same_label_map(label_map: LabelMap) -> None:
    decoded = cv2.imdecode(np.frombuffer(render_labels(label_map), np.uint8), cv2.IMREAD_UNCHANGED)

    assert decoded.dtype == label_map.dtype
    assert np.array_equal(decoded, label_map)


@given(label_map=label_maps, number=st.integers(1, 300))
def test_a_mask_is_255_inside_its_segment_and_0_elsewhere(label_map: LabelMap, number: int) -> None:
    image = Image.open(io.BytesIO(encode_mask(label_map, number)))

    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), np.where(label_map == number, 255, 0))


def test_three_hundred_segments_are_encoded_in_16_bits() -> None:
    label_map = np.arange(301, dtype=np.uint16).reshape(7, 43)

    image = Image.open(io.BytesIO(render_labels(label_map)))

    assert image.mode == "I;16"
    assert decode_png(encode_mask(label_map, 300)).sum() == 255


@settings(deadline=None)
@given(label_map=label_maps)
def test_each_range_of_the_zip_is_one_mask_png(label_map: LabelMap) -> None:
    segmentation = build_segmentation(label_map)

    rendered = render_masks(segmentation)

    assert list(rendered.ranges) == [segment.id for segment in segmentation.segments]
    for number, found in rendered.ranges.items():
        assert rendered.content[found.offset : found.offset + found.length] == encode_mask(label_map, number)


def test_the_zip_is_valid_and_its_entries_are_stored() -> None:
    segmentation = build_segmentation(np.array([[0, 1], [2, 2]], np.uint8))

    content = render_masks(segmentation).content

    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == ["1.png", "2.png"]
        assert {entry.compress_type for entry in opened.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_extracts_the_zip(tmp_path: Path) -> None:
    file = tmp_path / "masks.zip"
    file.write_bytes(render_masks(build_segmentation(np.array([[0, 1], [2, 2]], np.uint8))).content)

    subprocess.run(["unzip", "-q", str(file), "-d", str(tmp_path)], check=True)

    assert decode_png((tmp_path / "2.png").read_bytes()).tolist() == [[0, 0], [255, 255]]


def test_equal_segmentations_give_equal_zips() -> None:
    segmentation = build_segmentation(np.eye(5, dtype=np.uint8))

    assert render_masks(segmentation) == render_masks(segmentation)


def test_no_segments_give_an_empty_zip_and_an_empty_hf_array() -> None:
    empty = Segmentation(np.zeros((3, 4), np.uint8), ())

    rendered = render_masks(empty)

    assert zipfile.ZipFile(io.BytesIO(rendered.content)).namelist() == []
    assert rendered.ranges == {}
    assert hf_array((), rendered.content, rendered.ranges) == b"[]"


def test_the_hf_array_has_its_keys_in_order_and_plain_base64_masks() -> None:
    label_map = np.array([[0, 1], [2, 2]], np.uint8)

    array = json.loads(build_hf_array(build_segmentation(label_map, score=0.987654)))

    assert [list(element) for element in array] == [["score", "label", "mask"]] * 2
    assert [element["label"] for element in array] == ["thing 1", "thing 2"]
    assert {element["score"] for element in array} == {0.987654}
    assert decode_png(base64.b64decode(array[1]["mask"], validate=True)).tolist() == [[0, 0], [255, 255]]


def test_a_segment_without_a_score_has_score_1_in_the_hf_array() -> None:
    array = build_hf_array(build_segmentation(np.ones((2, 2), np.uint8), score=None))

    assert array.startswith(b'[{"score":1.0,"label":"thing 1","mask":"')


@settings(deadline=None, max_examples=50)
@given(label_map=label_maps)
def test_an_overlay_has_the_size_of_the_image(label_map: LabelMap) -> None:
    height, width = label_map.shape
    image = Image.new("RGB", (width, height), (90, 120, 150))

    drawn = Image.open(io.BytesIO(render_overlay(image, label_map)))

    assert (drawn.mode, drawn.size) == ("RGB", (width, height))


def test_the_overlay_of_a_large_image_is_scaled_down() -> None:
    label_map = np.zeros((1000, 3 * drawing.MAX_OVERLAY_SIDE), np.uint8)
    label_map[:, 4000:] = 1
    image = Image.new("RGB", label_map.shape[::-1])

    drawn = Image.open(io.BytesIO(render_overlay(image, label_map)))

    assert drawn.size == (drawing.MAX_OVERLAY_SIDE, 333)


def test_the_overlay_changes_only_pixels_of_segments() -> None:
    label_map = np.zeros((200, 200), np.uint8)
    label_map[:, 100:] = 1
    image = Image.new("RGB", (200, 200), (90, 120, 150))

    drawn = decode_png(render_overlay(image, label_map))

    assert (drawn[:, :95] == (90, 120, 150)).all()
    assert (drawn[5:50, 105:] != (90, 120, 150)).any(axis=2).all()


def test_the_overlay_labels_a_large_segment_in_white() -> None:
    image = Image.new("RGB", (300, 300))

    drawn = decode_png(render_overlay(image, np.ones((300, 300), np.uint8)))

    assert (drawn[130:170] > 200).all(axis=2).sum() > 50


@pytest.mark.parametrize("names", [("แมว", "หมา"), ("قطة", "كلب"), ("猫", "犬"), ("кот", "пёс")])
def test_the_overlay_labels_a_segment_in_any_script(names: tuple[str, str]) -> None:
    one, other, unknown = (draw_label(name) for name in (*names, "\ue000"))

    # Boxes would be equal.
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, unknown)


def draw_label(label: str) -> NDArray[np.generic]:
    """Return the overlay of one segment that fills the image."""
    label_map = np.ones((300, 300), np.uint8)
    segment = replace(build_segment(label_map, 1, 0.9), label=label)
    return decode_png(
        overlay.render(RenderSource(Segmentation(label_map, (segment,)), Image.new("RGB", (300, 300)))).content
    )


def test_the_palette_has_256_distinct_colours() -> None:
    palette = drawing.build_palette()

    assert len(np.unique(palette, axis=0)) == 256
    assert palette[0].tolist() == [0, 0, 0]


def test_pixels_that_no_png_can_hold_are_an_error_and_no_empty_file(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RenderingFailed, match="No PNG of 1000001 x 1 pixels"):
        encode_png(np.zeros((1, 1_000_001), np.uint8), PngStrategy.RUN_LENGTH)

    capfd.readouterr()  # the encoder writes to the error output itself


@pytest.mark.parametrize("size", [(65_500, 1), (1, 65_500), (65_500, 40), (2, 30_000)])
def test_very_long_images_are_rendered_in_all_formats(size: tuple[int, int]) -> None:
    width, height = size
    label_map = np.ones((height, width), np.uint8)
    label_map[height // 2 :, width // 2 :] = 2
    segmentation = build_segmentation(label_map)

    for name, render in load_renderers().items():
        assert render(RenderSource(segmentation, Image.new("RGB", fit_size(size, drawing.MAX_OVERLAY_SIDE)))).content, (
            name
        )
