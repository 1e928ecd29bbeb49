"""From pixels of a georeferenced image to longitude and latitude.  Pure, no torch."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.images.georeference import WGS84, Georeference

_LONGITUDE_LATITUDE: Final = "OGC:CRS84"  # WGS 84, as RFC 7946 wants it
_Numbers = NDArray[np.float64]


def to_degrees(points: NDArray[np.float64], georeference: Georeference) -> NDArray[np.float64] | None:
    """Return longitude and latitude, (n, 2), of points (n, 2) in pixels; None if they cannot be computed.

    WGS 84 (EPSG:4326) is taken as it is; every other system goes through PROJ, without any grid from the network.
    """
    a, b, c, d, e, f = georeference.transform
    x, y = points[:, 0], points[:, 1]
    with np.errstate(over="ignore", invalid="ignore"):  # of a transform that no map has; the result is checked
        east, north = a * x + b * y + c, d * x + e * y + f
    placed = (east, north) if georeference.epsg == WGS84 else _convert(east, north, georeference.epsg)
    if placed is None:
        return None
    degrees = np.stack(placed, axis=1)
    is_on_earth = np.isfinite(degrees).all() and (np.abs(degrees) <= (360, 90)).all()
    return degrees if is_on_earth else None


def _convert(east: _Numbers, north: _Numbers, epsg: int) -> tuple[_Numbers, _Numbers] | None:
    """Return longitude and latitude; None if the code is of no system of places on Earth."""
    # Most hosts never need it, and it takes 12 MB of memory.
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    try:
        system = CRS.from_epsg(epsg)
        if not (system.is_projected or system.is_geographic):
            return None
        transformer = Transformer.from_crs(system, _LONGITUDE_LATITUDE, always_xy=True)
        longitude, latitude = transformer.transform(east, north)
    except ProjError:
        return None
    return longitude, latitude
