"""GeoTIFFs, written by tifffile with the tags of the standard."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
import tifffile

DOUBLE, SHORT = 12, 3
SCALE, TIEPOINT, TRANSFORMATION, KEYS = 33550, 33922, 34264, 34735
PROJECTED, GEOGRAPHIC = 1, 2


def encode_geotiff(
    *,
    width: int = 8,
    height: int = 6,
    keys: Mapping[int, int],
    doubles: Mapping[int, Sequence[float]],
    orientation: int = 1,
    big: bool = False,
) -> bytes:
    """Return a grey TIFF with these GeoKeys and tags of doubles."""
    numbers = [1, 1, 1, len(keys)]
    for key, value in sorted(keys.items()):
        numbers += [key, 0, 1, value]
    tags: list[tuple[object, ...]] = [
        (tag, DOUBLE, len(values), tuple(values), True) for tag, values in doubles.items()
    ]
    tags += [(KEYS, SHORT, len(numbers), tuple(numbers), True), (274, SHORT, 1, orientation, True)]
    file = BytesIO()
    with tifffile.TiffWriter(file, bigtiff=big) as writer:
        writer.write(np.zeros((height, width), np.uint8), extratags=tags, metadata=None)
    return file.getvalue()


def wgs84(**options: object) -> bytes:
    """Return a GeoTIFF in degrees, north up: pixels of a tenth of a degree, from 10 E, 50 N."""
    doubles = {SCALE: (0.1, 0.1, 0.0), TIEPOINT: (0.0, 0.0, 0.0, 10.0, 50.0, 0.0)}
    return encode_geotiff(keys={1024: GEOGRAPHIC, 1025: 1, 2048: 4326}, doubles=doubles, **options)


def utm(**options: object) -> bytes:
    """Return a GeoTIFF in metres of UTM zone 33 north, 10 metres a pixel."""
    doubles = {SCALE: (10.0, 10.0, 0.0), TIEPOINT: (0.0, 0.0, 0.0, 500_000.0, 5_000_000.0, 0.0)}
    return encode_geotiff(keys={1024: PROJECTED, 1025: 1, 3072: 32633}, doubles=doubles, **options)
