"""Where on Earth the pixels of an image lie.  No image libraries."""

from dataclasses import dataclass
from typing import Final

WGS84: Final = 4326  # EPSG code

Transform = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Georeference:
    """A point (x, y) of the image, in pixels from its upper left corner, is (ax + by + c, dx + ey + f) on Earth.

    transform: a, b, c, d, e, f.
    epsg: code of the coordinate reference system, longitude or easting first.
    """

    transform: Transform
    epsg: int
