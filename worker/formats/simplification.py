"""Outlines with fewer corners, which stay valid polygons and close to their segments.  Pure, no torch."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import shapely
from shapely import MultiPolygon

from worker.formats.changed_pixels import count_changed_pixels
from worker.formats.outlines import Outline, Ring, list_rings, measure_area, trace_outlines
from worker.formats.rendered import RenderSource

MAX_CHANGED_SHARE: Final = 0.015  # of a segment's pixels
MAX_RINGS: Final = 1_000  # of a segment; GEOS compares them in pairs, and a segment of more has small parts
_MIN_TOLERANCE: Final = 0.5  # pixels; below it hardly any corner of a pixel is left out
_Outlines = tuple[Outline, ...]


def get_outlines(source: RenderSource) -> Mapping[int, _Outlines]:
    """Return the outlines of each segment by its id, as simple as the options ask for; empty segments have none.

    Raises:
        TooManyCorners: the segments have more corners than polygons are made of.
    """
    label_map = source.segmentation.label_map
    return source.share(
        "outlines",
        lambda: simplify_outlines(trace_outlines(label_map), source.options.polygon_tolerance),
    )


def simplify_outlines(outlines: Mapping[int, _Outlines], tolerance: float) -> Mapping[int, _Outlines]:
    """Leave out corners of each segment's outlines that lie within `tolerance` pixels of the edge in their place.

    The algorithm is that of Douglas and Peucker in the form of GEOS that keeps polygons valid, and the polygons of one
    segment apart.  Where more than MAX_CHANGED_SHARE of a segment's pixels would change, the tolerance is halved for
    that segment, and at last its exact outlines are kept; so small segments keep theirs.
    So do segments of more than MAX_RINGS rings.

    Args:
        tolerance: 0 keeps every corner.
    """
    found = dict(outlines)
    remaining = [number for number, parts in outlines.items() if sum(1 for _ in list_rings(parts)) <= MAX_RINGS]
    while remaining and tolerance >= _MIN_TOLERANCE:
        geometries = shapely.simplify([_to_geometry(outlines[number]) for number in remaining], tolerance)
        simplified = [_from_geometry(geometry) for geometry in geometries]
        changed = count_changed_pixels([outlines[number] for number in remaining], simplified)
        areas = np.array([_measure_area(outlines[number]) for number in remaining])
        is_close = shapely.is_valid(geometries) & (changed <= MAX_CHANGED_SHARE * areas)
        found.update((remaining[place], simplified[place]) for place in np.flatnonzero(is_close))
        remaining = [remaining[place] for place in np.flatnonzero(~is_close)]
        tolerance /= 2
    return found


def _measure_area(outlines: _Outlines) -> float:
    return sum(map(measure_area, list_rings(outlines)))


def _to_geometry(outlines: _Outlines) -> MultiPolygon:
    return MultiPolygon([(one.exterior, one.holes) for one in outlines])


def _from_geometry(geometry: MultiPolygon) -> _Outlines:
    parts = getattr(geometry, "geoms", (geometry,))
    return tuple(
        Outline(_to_ring(part.exterior.coords), tuple(_to_ring(hole.coords) for hole in part.interiors))
        for part in parts
    )


def _to_ring(coordinates: object) -> Ring:
    """Return a closed line's points, each once."""
    return np.asarray(coordinates)[:-1].astype(np.int64)
