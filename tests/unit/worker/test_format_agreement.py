"""All formats of one label map have the same pixels: exactly, or nearly where they have simplified polygons.

Each is read back by a library other than the one that wrote it, or by a reader made from the description of the format.
"""

import base64
import io
import json
import zipfile
from collections.abc import Mapping
from itertools import groupby
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from shared.formats.registry import FORMATS, get_format
from shared.jobs.format_options import FormatOptions
from tests.support.brush import decode_brush
from tests.support.label_maps import build_label_maps, build_segmentation
from tests.support.rasters import cover_any, cover_centres
from worker.formats.outlines import trace_outlines
from worker.formats.rendered import RenderSource
from worker.pipeline.rendering import load_renderers

RENDERERS = load_renderers()
MIN_AREA = 100  # pixels of the segments whose polygons are compared
MIN_IOU = 0.98
Masks = Mapping[int, NDArray[np.bool_]]

pytestmark = [
    pytest.mark.parametrize("name", build_label_maps()),
    # What pycocotools does when it decodes is deprecated by numpy.
    pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def sources() -> dict[str, RenderSource]:
    options = FormatOptions(coco_polygons=False)
    return {
        name: RenderSource(build_segmentation(label_map), file_name="photo.jpg", model="org/name", options=options)
        for name, label_map in build_label_maps().items()
    }


@pytest.fixture
def source(sources: dict[str, RenderSource], name: str) -> RenderSource:
    return sources[name]


def render(name: str, source: RenderSource) -> bytes:
    return RENDERERS[name](source).content


def load(name: str, source: RenderSource) -> Any:
    return json.loads(render(name, source))


def expect(source: RenderSource) -> dict[int, NDArray[np.bool_]]:
    """Return the mask of each segment that has pixels."""
    segmentation = source.segmentation
    return {one.id: segmentation.label_map == one.id for one in segmentation.segments if one.area}


def assert_equal(found: Masks, source: RenderSource) -> None:
    expected = expect(source)
    assert found.keys() == expected.keys()
    for number, mask in expected.items():
        assert np.array_equal(found[number], mask), number


def assert_close(found: Masks, source: RenderSource, *, has_holes: bool) -> None:
    """Compare masks; where a format has no holes, with the segments whose holes are filled."""
    expected = expect(source)
    assert found.keys() == expected.keys()
    for number, mask in expected.items():
        if mask.sum() > MIN_AREA:
            wanted = mask if has_holes else fill_holes(number, source)
            assert measure_iou(found[number], wanted) >= MIN_IOU, number


def fill_holes(number: int, source: RenderSource) -> NDArray[np.bool_]:
    """Return what the exact exteriors of a segment are around."""
    outlines = source.share("exact", lambda: trace_outlines(source.segmentation.label_map))
    return cover_any([one.exterior for one in outlines[number]], source.segmentation.label_map.shape)


def measure_iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_labels_png_has_the_pixels(source: RenderSource) -> None:
    label_map = np.asarray(Image.open(io.BytesIO(render("labels", source))))

    assert np.array_equal(label_map, source.segmentation.label_map)


def test_masks_zip_has_the_pixels(source: RenderSource) -> None:
    archive = zipfile.ZipFile(io.BytesIO(render("masks", source)))

    masks = {
        int(name.removesuffix(".png")): np.asarray(Image.open(archive.open(name))) > 0 for name in archive.namelist()
    }
    assert_equal({number: mask for number, mask in masks.items() if mask.any()}, source)


def test_the_hugging_face_array_has_the_pixels(source: RenderSource) -> None:
    array = load("hf", source)

    masks = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one["mask"])))) > 0 for one in array]
    assert_equal({number: mask for number, mask in enumerate(masks, start=1) if mask.any()}, source)


def test_rle_json_has_the_pixels(source: RenderSource) -> None:
    segments = load("rle", source)["segments"]

    masks = {one["id"]: coco_mask.decode(one["segmentation"]).astype(bool) for one in segments}
    assert_equal({number: mask for number, mask in masks.items() if mask.any()}, source)


def test_segments_json_describes_the_segments(source: RenderSource) -> None:
    document = load("segments", source)

    height, width = source.segmentation.label_map.shape
    assert document["image"] == {"file_name": "photo.jpg", "width": width, "height": height}
    assert [
        (one["id"], one["label"], one["score"], one["is_thing"], one["area"], tuple(one["bbox"]))
        for one in document["segments"]
    ] == [(one.id, one.label, one.score, one.is_thing, one.area, one.bbox) for one in source.segmentation.segments]


def open_coco(source: RenderSource, **options: object) -> COCO:
    shared = RenderSource(
        source.segmentation, file_name="photo.jpg", options=FormatOptions(**options), shared=dict(source.shared)
    )
    coco = COCO()
    coco.dataset = json.loads(render("coco", shared))
    coco.createIndex()
    return coco


def test_pycocotools_reads_the_pixels_of_coco_json(source: RenderSource, capfd: pytest.CaptureFixture[str]) -> None:
    coco = open_coco(source)

    masks = {one["id"]: coco.annToMask(one).astype(bool) for one in coco.loadAnns(coco.getAnnIds())}
    assert_equal(masks, source)
    for one in coco.loadAnns(coco.getAnnIds()):
        assert one["area"] == masks[one["id"]].sum()
        assert one["bbox"] == coco_mask.toBbox(coco.annToRLE(one)).tolist()
        assert coco.loadCats(one["category_id"])[0]["name"] == source.segmentation.segments[one["id"] - 1].label
    capfd.readouterr()  # COCO prints


def test_pycocotools_reads_the_polygons_of_coco_json(source: RenderSource, capfd: pytest.CaptureFixture[str]) -> None:
    coco = open_coco(source, coco_polygons=True)

    masks = {one["id"]: coco.annToMask(one).astype(bool) for one in coco.loadAnns(coco.getAnnIds())}
    assert_close(masks, source, has_holes=False)
    capfd.readouterr()


def test_the_panoptic_rules_hold(source: RenderSource) -> None:
    document = load("panoptic", source)
    png = np.asarray(Image.open(io.BytesIO(render("panoptic_png", source)))).astype(np.int64)

    ids = png[:, :, 0] + 256 * png[:, :, 1] + 65536 * png[:, :, 2]
    [annotation], [image] = document["annotations"], document["images"]
    infos = {one["id"]: one for one in annotation["segments_info"]}
    categories = {one["id"]: one for one in document["categories"]}
    assert (annotation["file_name"], annotation["image_id"]) == (get_format("panoptic_png").file, image["id"])
    assert len(infos) == len(annotation["segments_info"])
    # Every pixel is void or of exactly one segment, and every segment has pixels.
    assert infos.keys() == set(np.unique(ids).tolist()) - {0}
    assert_equal({number: ids == number for number in infos}, source)
    for number, info in infos.items():
        rows, columns = np.nonzero(ids == number)
        x, y = columns.min(), rows.min()
        assert info["area"] == rows.size
        assert info["bbox"] == [x, y, columns.max() - x + 1, rows.max() - y + 1]
        assert info["iscrowd"] == 0
        assert categories[info["category_id"]]["isthing"] == source.segmentation.segments[number - 1].is_thing


def test_polygons_json_has_the_pixels(source: RenderSource) -> None:
    segments = load("polygons", source)["segments"]

    masks = {
        one["id"]: cover_centres(
            [ring for polygon in one["polygons"] for ring in (polygon["exterior"], *polygon["holes"])],
            source.segmentation.label_map.shape,
        )
        for one in segments
        if one["polygons"]
    }
    assert_close(masks, source, has_holes=True)


def test_geojson_has_the_pixels(source: RenderSource) -> None:
    document = load("geojson", source)

    assert (document["type"], document["coordinate_unit"]) == ("FeatureCollection", "pixel")
    masks = {}
    for feature in document["features"]:
        rings = list_geojson_rings(feature["geometry"])
        assert all(ring[0] == ring[-1] for ring in rings)
        if rings:
            masks[feature["id"]] = cover_centres(rings, source.segmentation.label_map.shape)
    assert_close(masks, source, has_holes=True)


def list_geojson_rings(geometry: Any) -> list[list[list[float]]]:
    match geometry:
        case {"type": "Polygon", "coordinates": polygon}:
            return polygon
        case {"type": "MultiPolygon", "coordinates": polygons}:
            return [ring for polygon in polygons for ring in polygon]
    return []


def test_yolo_has_the_pixels(source: RenderSource) -> None:
    lines = render("yolo", source).decode().splitlines()

    visible = [one for one in source.segmentation.segments if one.area]
    height, width = source.segmentation.label_map.shape
    masks = {}
    for segment, line in zip(visible, lines, strict=True):
        label_id, *numbers = line.split(" ")
        points = np.array(numbers, float).reshape(-1, 2)
        assert int(label_id) == segment.label_id
        assert len(points) >= 3
        assert points.min() >= 0
        assert points.max() <= 1
        masks[segment.id] = cover_any([points * (width, height)], (height, width))
    assert_close(masks, source, has_holes=False)


def test_labelme_has_the_pixels(source: RenderSource) -> None:
    document = load("labelme", source)

    shape = document["imageHeight"], document["imageWidth"]
    masks: dict[int, NDArray[np.bool_]] = {}
    for number, group in groupby(document["shapes"], lambda one: one["group_id"]):
        shapes = list(group)
        assert {one["label"] for one in shapes} == {source.segmentation.segments[number - 1].label}
        masks[number] = cover_any([one["points"] for one in shapes], shape)
    assert_close(masks, source, has_holes=False)


def test_cvat_xml_has_the_pixels(source: RenderSource) -> None:
    root = ElementTree.fromstring(render("cvat", source))

    visible = [one for one in source.segmentation.segments if one.area]
    masks = {}
    for segment, element in zip(visible, root.iterfind("image/mask"), strict=True):
        assert element.get("label") == segment.label
        left, top, width, height = (int(element.get(key)) for key in ("left", "top", "width", "height"))
        counts = [int(count) for count in element.get("rle").split(",")]
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        masks[segment.id] = np.zeros(source.segmentation.label_map.shape, bool)
        masks[segment.id][top : top + height, left : left + width] = flat.reshape(height, width)
    assert_equal(masks, source)
    assert {one.text for one in root.iterfind("meta//name")} == {one.label for one in visible}


def test_label_studio_has_the_pixels(source: RenderSource) -> None:
    [task] = load("labelstudio", source)

    results = task["predictions"][0]["result"]
    height, width = source.segmentation.label_map.shape
    brushes, polygons = {}, {}
    for result in results:
        assert (result["original_width"], result["original_height"]) == (width, height)
        kind, number = result["id"].split("-")[:2]
        label = source.segmentation.segments[int(number) - 1].label
        assert result["value"][result["type"]] == [label]
        if kind == "brush":
            pixels = decode_brush(result["value"]["rle"]).reshape(height, width, 4)
            brushes[int(number)] = pixels[:, :, 3] == 255
            assert np.array_equal(pixels, np.repeat(255 * brushes[int(number)][:, :, None], 4, axis=2))
        else:
            points = np.array(result["value"]["points"]) * (width / 100, height / 100)
            polygons.setdefault(int(number), []).append(points)
    assert len({result["id"] for result in results}) == len(results)
    assert_equal(brushes, source)
    assert_close(
        {number: cover_any(rings, (height, width)) for number, rings in polygons.items()}, source, has_holes=False
    )


def test_all_zip_has_every_file_that_needs_no_photo(source: RenderSource) -> None:
    archive = zipfile.ZipFile(io.BytesIO(render("all", source)))

    expected = {one.name: one.file for one in FORMATS if not one.needs_image and one.name != "all"}
    assert archive.testzip() is None
    assert set(archive.namelist()) == set(expected.values())
    assert archive.read("segments.json") == render("segments", source)
