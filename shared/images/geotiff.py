"""Reading of where on Earth the pixels of a GeoTIFF lie: its transform and the EPSG code of its coordinates.

Source: OGC GeoTIFF Standard 1.1 (19-008r4), sections 7.1 (keys) and B.6 (raster to model).
"""

import math
import struct
from contextlib import suppress
from typing import Final

from shared.errors import MaskmillError
from shared.images.directory import Directory
from shared.images.georeference import Georeference, Transform
from shared.images.tiff_pages import choose_directory

_PIXEL_SCALE, _TIEPOINT, _TRANSFORMATION, _KEYS = 33550, 33922, 34264, 34735
_ORIENTATION, _UPRIGHT = 274, 1
_MODEL_TYPE, _RASTER_TYPE, _GEOGRAPHIC_CODE, _PROJECTED_CODE = 1024, 1025, 2048, 3072
_CODE_KEYS: Final = {1: _PROJECTED_CODE, 2: _GEOGRAPHIC_CODE}  # by the type of the model
_PIXEL_IS_POINT: Final = 2
_MAX_KEYS: Final = 1_000
_DOUBLE: Final = 12  # a type of tags
_EPSG_CODES: Final = range(1024, 32767)  # others are private or user-defined
_TIFF_SIGNATURES: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_georeference(data: bytes) -> Georeference | None:
    """Read the georeference of a TIFF; None if it has none, is turned, or is defined by more than an affine transform.

    The numbers that are read are bounded, also if the file says more.
    """
    if data[:4] not in _TIFF_SIGNATURES:
        return None
    with suppress(struct.error, MaskmillError):
        return _read(choose_directory(data), data)
    return None


def _read(directory: Directory, data: bytes) -> Georeference | None:
    keys = _read_keys(directory, data)
    epsg = keys.get(_CODE_KEYS.get(keys.get(_MODEL_TYPE, 0), 0), 0)
    transform = _read_transform(directory, data)
    if epsg not in _EPSG_CODES or transform is None or not all(map(math.isfinite, transform)):
        return None
    if directory.read_number(data, _ORIENTATION, _UPRIGHT) != _UPRIGHT:
        return None
    # The model's point of a pixel that is a point is in its middle.
    shift = 0.5 if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT else 0.0
    a, b, c, d, e, f = transform
    return Georeference((a, b, c - shift * (a + b), d, e, f - shift * (d + e)), epsg)


def _read_keys(directory: Directory, data: bytes) -> dict[int, int]:
    """Return the keys that are short numbers; others are in other tags."""
    numbers = directory.read_numbers(data, _KEYS, 4 * (_MAX_KEYS + 1))
    rows = (numbers[place : place + 4] for place in range(4, len(numbers) - 3, 4))
    return {key: value for key, location, _, value in rows if location == 0}


def _read_transform(directory: Directory, data: bytes) -> Transform | None:
    matrix = _read_doubles(directory, data, _TRANSFORMATION, 16)
    if len(matrix) == 16:
        return matrix[0], matrix[1], matrix[3], matrix[4], matrix[5], matrix[7]
    scale, tie = _read_doubles(directory, data, _PIXEL_SCALE, 3), _read_doubles(directory, data, _TIEPOINT, 6)
    if len(scale) < 2 or len(tie) < 6:
        return None
    return scale[0], 0.0, tie[3] - tie[0] * scale[0], 0.0, -scale[1], tie[4] + tie[1] * scale[1]


def _read_doubles(directory: Directory, data: bytes, tag: int, at_most: int) -> tuple[float, ...]:
    """Return the first values of a tag of doubles; none if it is missing or of another type.

    Raises:
        struct.error: the file stops before their end.
    """
    entry = directory.entries.get(tag)
    if entry is None or entry.kind != _DOUBLE:
        return ()
    return struct.unpack_from(f"{directory.order}{min(entry.count, at_most)}d", data, entry.position)
