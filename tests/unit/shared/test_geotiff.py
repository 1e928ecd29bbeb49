"""Where the pixels of a GeoTIFF lie, by its tags."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.images.georeference import Georeference
from shared.images.geotiff import read_georeference
from tests.support.geotiffs import (
    GEOGRAPHIC,
    PROJECTED,
    SCALE,
    TIEPOINT,
    TRANSFORMATION,
    encode_geotiff,
    utm,
    wgs84,
)
from tests.support.jobs import png

KEYS = {1024: GEOGRAPHIC, 1025: 1, 2048: 4326}


@pytest.mark.parametrize("big", [False, True])
def test_scale_and_tiepoint_are_a_transform(big: bool) -> None:
    assert read_georeference(wgs84(big=big)) == Georeference((0.1, 0.0, 10.0, 0.0, -0.1, 50.0), 4326)


def test_a_projected_system_has_its_code() -> None:
    assert read_georeference(utm()) == Georeference((10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), 32633)


def test_a_tiepoint_may_be_any_pixel() -> None:
    data = encode_geotiff(keys=KEYS, doubles={SCALE: (0.5, 0.25, 0), TIEPOINT: (4, 2, 0, 12, 49, 0)})

    assert read_georeference(data) == Georeference((0.5, 0.0, 10.0, 0.0, -0.25, 49.5), 4326)


def test_a_pixel_that_is_a_point_has_it_in_its_middle() -> None:
    data = encode_geotiff(keys={**KEYS, 1025: 2}, doubles={SCALE: (2, 2, 0), TIEPOINT: (0, 0, 0, 10, 50, 0)})

    assert read_georeference(data) == Georeference((2.0, 0.0, 9.0, 0.0, -2.0, 51.0), 4326)


def test_a_matrix_is_a_transform() -> None:
    matrix = (0.1, 0.2, 0, 10, 0.3, -0.4, 0, 50, 0, 0, 0, 0, 0, 0, 0, 1)

    found = read_georeference(encode_geotiff(keys=KEYS, doubles={TRANSFORMATION: matrix}))

    assert found == Georeference((0.1, 0.2, 10.0, 0.3, -0.4, 50.0), 4326)


@pytest.mark.parametrize(
    "data",
    [
        png(4, 4),
        b"II*\0",
        b"",
        wgs84(orientation=6),
        encode_geotiff(keys=KEYS, doubles={}),
        encode_geotiff(keys=KEYS, doubles={SCALE: (1, 1, 0), TIEPOINT: (0, 0, 0, float("nan"), 0, 0)}),
        encode_geotiff(keys={1024: PROJECTED, 3072: 32767}, doubles={SCALE: (1, 1, 0), TIEPOINT: (0,) * 6}),
        encode_geotiff(keys={}, doubles={SCALE: (1, 1, 0), TIEPOINT: (0,) * 6}),
    ],
    ids=["png", "truncated", "empty", "turned", "no transform", "nan", "user-defined", "no keys"],
)
def test_other_files_have_no_georeference(data: bytes) -> None:
    assert read_georeference(data) is None


@given(place=st.integers(0, 400), value=st.integers(0, 255), end=st.integers(0, 600))
@example(place=8, value=255, end=600)
def test_no_damage_raises_an_error(place: int, value: int, end: int) -> None:
    data = bytearray(wgs84())
    data[place % len(data)] = value

    found = read_georeference(bytes(data[:end]))

    assert found is None or isinstance(found, Georeference)
