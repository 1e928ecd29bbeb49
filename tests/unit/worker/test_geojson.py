"""GeoJSON of images with and without a georeference."""

import json
from typing import Any

import numpy as np
import pytest
from pyproj import Transformer
from shapely.geometry import shape

from shared.formats.registry import get_format
from shared.images.georeference import Georeference
from shared.images.geotiff import read_georeference
from shared.jobs.format_options import FormatOptions
from tests.support.geotiffs import utm, wgs84
from tests.support.label_maps import build_label_maps, build_segmentation
from worker.formats import geojson
from worker.formats.rendered import Rendered, RenderSource

HALF = np.zeros((6, 8), np.uint8)
HALF[1:4, 2:7] = 1


def render(georeference: Georeference | None, label_map: np.ndarray = HALF) -> Rendered:
    options = FormatOptions(polygon_tolerance=0.0)
    return geojson.render(RenderSource(build_segmentation(label_map), georeference=georeference, options=options))


def read_geometry(rendered: Rendered) -> Any:
    return shape(json.loads(rendered.content)["features"][0]["geometry"])


def test_an_image_without_georeference_has_pixels_and_another_media_type() -> None:
    rendered = render(None)

    assert json.loads(rendered.content)["coordinate_unit"] == "pixel"
    assert rendered.media_type == "application/json" == get_format("geojson").other_media_type
    assert read_geometry(rendered).bounds == (2, 1, 7, 4)


def test_degrees_of_wgs_84_are_taken_as_they_are() -> None:
    rendered = render(read_georeference(wgs84()))

    assert json.loads(rendered.content)["coordinate_unit"] == "degree"
    assert rendered.media_type is None
    assert read_geometry(rendered).bounds == pytest.approx((10.2, 49.6, 10.7, 49.9), abs=1e-9)


def test_a_projected_system_becomes_degrees() -> None:
    rendered = render(read_georeference(utm()))

    to_metres = Transformer.from_crs(4326, 32633, always_xy=True)
    [ring] = json.loads(rendered.content)["features"][0]["geometry"]["coordinates"]
    metres = [to_metres.transform(*point) for point in ring]
    corners = [(500_000 + 10 * x, 5_000_000 - 10 * y) for x, y in [(2, 1), (7, 1), (7, 4), (2, 4)]]
    assert sorted({(round(x, 3), round(y, 3)) for x, y in metres}) == sorted(corners)


@pytest.mark.parametrize("data", [wgs84(), utm()], ids=["degrees", "metres"])
def test_rings_have_the_order_of_rfc_7946(data: bytes) -> None:
    geometry = read_geometry(render(read_georeference(data), build_label_maps()["island in a hole"]))

    for polygon in geometry.geoms:
        assert polygon.exterior.is_ccw
        assert not any(hole.is_ccw for hole in polygon.interiors)


def test_polygons_in_degrees_have_the_holes_and_islands_of_their_segments() -> None:
    label_map = build_label_maps()["island in a hole"]

    geometry = read_geometry(render(read_georeference(wgs84()), label_map))

    assert geometry.is_valid
    assert geometry.area == pytest.approx(0.01 * (label_map == 1).sum())
    assert [len(polygon.interiors) for polygon in geometry.geoms] == [1, 1]


@pytest.mark.parametrize(
    "georeference",
    [
        Georeference((1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 9),
        Georeference((1.0, 0.0, 1000.0, 0.0, -1.0, 0.0), 4326),
        Georeference((1e308, 0.0, 1e308, 0.0, -1e308, 0.0), 4326),
        Georeference((1e30, 0.0, 0.0, 0.0, -1e30, 0.0), 32633),
        Georeference((1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 5773),
    ],
    ids=["no such code", "no degrees", "too large", "not on Earth", "heights alone"],
)
def test_coordinates_that_cannot_be_converted_stay_pixels(georeference: Georeference) -> None:
    rendered = render(georeference)

    assert rendered.media_type == "application/json"
    assert read_geometry(rendered).bounds == (2, 1, 7, 4)


def test_an_empty_segment_has_no_geometry() -> None:
    features = json.loads(render(read_georeference(wgs84()), np.full((6, 8), 2, np.uint8)).content)["features"]

    assert [feature["geometry"] is None for feature in features] == [True, False]


def test_an_image_without_segments_has_no_features() -> None:
    rendered = render(read_georeference(wgs84()), np.zeros((6, 8), np.uint8))

    assert json.loads(rendered.content) == {"type": "FeatureCollection", "coordinate_unit": "degree", "features": []}
