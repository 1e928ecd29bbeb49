"""segments.geojson: the segments as features of GeoJSON (RFC 7946).  Pure, no torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.formats.registry import get_format
from worker.formats.descriptions import describe_segment
from worker.formats.geography import to_degrees
from worker.formats.rendered import Rendered, RenderSource
from worker.formats.simplification import get_outlines

_DECIMALS: Final = 9  # of a degree: a tenth of a millimetre
Polygon = list[NDArray[np.float64]] | list[NDArray[np.int64]]
"""The rings of a polygon, each (n, 2): the exterior, then holes."""


def render(source: RenderSource) -> Rendered:
    """Write each segment as a polygon, or several, with holes; a segment without pixels has no geometry.

    Longitude and latitude if the image is a GeoTIFF whose coordinates can be converted; polygons that cross the
    antimeridian are not cut.  Otherwise pixels, which RFC 7946 does not allow, so the media type is another one.
    """
    outlines = get_outlines(source)
    polygons: Mapping[int, Sequence[Polygon]] = {
        number: [[one.exterior, *one.holes] for one in found] for number, found in outlines.items()
    }
    on_earth = _locate(polygons, source)
    features = [
        {
            "type": "Feature",
            "id": segment.id,
            "geometry": _describe_geometry((on_earth or polygons).get(segment.id, [])),
            "properties": describe_segment(segment),
        }
        for segment in source.segmentation.segments
    ]
    unit = "pixel" if on_earth is None else "degree"
    document = {"type": "FeatureCollection", "coordinate_unit": unit, "features": features}
    content = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Rendered(content, media_type=None if on_earth is not None else get_format("geojson").other_media_type)


def _locate(polygons: Mapping[int, Sequence[Polygon]], source: RenderSource) -> Mapping[int, Sequence[Polygon]] | None:
    """Return the polygons in degrees; None if the image has no georeference, or one that cannot be converted."""
    rings = [ring for found in polygons.values() for polygon in found for ring in polygon]
    if source.georeference is None:
        return None
    points = np.concatenate([np.zeros((0, 2)), *rings])
    degrees = to_degrees(points, source.georeference)
    if degrees is None:
        return None
    located = iter(np.split(degrees.round(_DECIMALS), np.cumsum([len(ring) for ring in rings])[:-1]))
    return {
        number: [[_orient(next(located), is_hole=place > 0) for place in range(len(polygon))] for polygon in found]
        for number, found in polygons.items()
    }


def _orient(ring: NDArray[np.float64], *, is_hole: bool) -> NDArray[np.float64]:
    """Return a ring in the order of RFC 7946: an exterior counterclockwise, a hole clockwise."""
    x, y = (ring - ring[0]).T
    is_clockwise = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() < 0
    return ring if is_clockwise == is_hole else ring[::-1]


def _describe_geometry(polygons: Sequence[Polygon]) -> dict[str, Any] | None:
    closed = [[np.concatenate([ring, ring[:1]]) for ring in polygon] for polygon in polygons]
    match closed:
        case []:
            return None
        case [polygon]:
            return {"type": "Polygon", "coordinates": polygon}
    return {"type": "MultiPolygon", "coordinates": closed}
