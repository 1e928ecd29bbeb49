"""Outlines cover the pixels of their segments exactly, are valid polygons, and stay close when simplified."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from shapely import MultiPolygon

from shared.errors import TooManyCorners
from tests.support.cpu_time import measure_cpu_seconds
from tests.support.label_maps import blobs, build_label_maps
from tests.support.rasters import cover_centres
from worker.formats.outlines import MAX_TURNS, Outline, trace_outlines
from worker.formats.simplification import simplify_outlines
from worker.segmenter import LabelMap

CPU_SECONDS = 1.5

label_maps = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: arrays.arrays(np.uint8, shape, elements=st.integers(0, 3))
)


def to_geometry(outlines: tuple[Outline, ...]) -> MultiPolygon:
    return MultiPolygon([(one.exterior, one.holes) for one in outlines])


def list_rings(outlines: tuple[Outline, ...]) -> list[np.ndarray]:
    return [ring for one in outlines for ring in (one.exterior, *one.holes)]


@settings(deadline=None, max_examples=200)
@given(label_map=label_maps)
def test_outlines_are_valid_and_cover_exactly_the_pixels_of_their_segment(label_map: LabelMap) -> None:
    found = trace_outlines(label_map)

    assert set(found) == set(np.unique(label_map).tolist()) - {0}
    for number, outlines in found.items():
        mask = label_map == number
        assert np.array_equal(cover_centres(list_rings(outlines), label_map.shape), mask)
        assert to_geometry(outlines).is_valid
        assert to_geometry(outlines).area == mask.sum()


def test_parts_are_neighbours_by_edges_and_not_by_corners() -> None:
    [outlines] = trace_outlines(np.array([[1, 0, 1], [0, 1, 1]], np.uint8)).values()

    assert sorted(shapely.Polygon(one.exterior).area for one in outlines) == [1, 3]


def test_an_island_in_a_hole_is_a_part_of_its_own() -> None:
    outlines = trace_outlines(build_label_maps()["island in a hole"])[1]

    assert [len(one.holes) for one in outlines] == [1, 1]


def test_every_turn_and_nothing_else_is_a_corner() -> None:
    [[outline]] = trace_outlines(np.array([[1, 1, 1], [1, 1, 0]], np.uint8)).values()

    assert sorted(outline.exterior.tolist()) == [[0, 0], [0, 2], [2, 1], [2, 2], [3, 0], [3, 1]]


@pytest.mark.parametrize("name", build_label_maps())
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 4.0])
def test_simplified_outlines_are_valid_and_close_to_their_segment(name: str, tolerance: float) -> None:
    label_map = build_label_maps()[name]

    found = simplify_outlines(trace_outlines(label_map), tolerance)

    for number, outlines in found.items():
        mask, covered = label_map == number, cover_centres(list_rings(outlines), label_map.shape)
        assert to_geometry(outlines).is_valid
        assert (mask & covered).sum() >= (1.0 if tolerance == 0 else 0.98) * (mask | covered).sum()


def test_simplified_outlines_have_fewer_corners() -> None:
    label_map = blobs(800, 600, 5)
    exact = trace_outlines(label_map)

    simplified = simplify_outlines(exact, 1.0)

    counts = [sum(len(ring) for found in each.values() for ring in list_rings(found)) for each in (exact, simplified)]
    assert counts[1] < counts[0] / 2


def noise(side: int) -> LabelMap:
    return np.random.default_rng(3).integers(0, 20, (side, side)).astype(np.uint8)


def test_outlines_of_noise_take_bounded_cpu_time() -> None:
    # 80,000 parts, each with an outline of its own.
    assert measure_cpu_seconds(lambda: trace_outlines(noise(300)), tries=5) < CPU_SECONDS


def test_more_corners_than_the_limit_are_refused_before_they_are_followed() -> None:
    label_map = noise(1500)

    def refuse() -> None:
        with pytest.raises(TooManyCorners, match="at most 500000 are drawn as polygons"):
            trace_outlines(label_map)

    assert measure_cpu_seconds(refuse) < CPU_SECONDS / 3


def test_a_large_photo_of_many_segments_is_far_below_the_limit() -> None:
    outlines = trace_outlines(blobs(4000, 3000, 30))

    corners = sum(len(ring) for found in outlines.values() for ring in list_rings(found))
    # Nearly every point is a corner of two segments.
    assert corners < MAX_TURNS / 2
