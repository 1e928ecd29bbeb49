"""Scans are counted from the markers of a JPEG, in its metadata and in damaged files too."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.errors import ImageTooCostly
from shared.images.jpeg import MAX_SCANS, MAX_SEGMENTS, ORDINARY_SCANS, check_scans, count_scans, has_separate_scans
from tests.support.images import coffee, jpeg


def encode(*, is_progressive: bool, **options: object) -> bytes:
    buffer = BytesIO()
    coffee().save(buffer, "JPEG", progressive=is_progressive, **options)
    return buffer.getvalue()


def test_a_baseline_jpeg_has_one_scan_of_all_components() -> None:
    data = encode(is_progressive=False)

    assert count_scans(data, 1000) == 1
    assert not has_separate_scans(data, 3)


def test_a_progressive_jpeg_has_ten_scans() -> None:
    assert count_scans(encode(is_progressive=True), 1000) == 10


def test_restart_markers_do_not_end_a_scan() -> None:
    assert count_scans(encode(is_progressive=True, restart_marker_blocks=3), 1000) == 10


def test_any_number_of_restart_markers_is_accepted() -> None:
    data = encode(is_progressive=True, restart_marker_blocks=1)

    assert sum(data.count(bytes((0xFF, marker))) for marker in range(0xD0, 0xD8)) > 2 * MAX_SEGMENTS
    assert count_scans(data, 1000) == 10


@pytest.mark.parametrize("marker", [0x01, 0xD8, 0xFE])
def test_other_markers_between_scans_are_limited(marker: int) -> None:
    data = encode(is_progressive=True)
    place = data.rindex(b"\xff\xda")
    piece = bytes((0xFF, marker)) + (b"\x00\x02" if marker == 0xFE else b"")

    with pytest.raises(ImageTooCostly, match="segments"):
        count_scans(data[:place] + piece * (MAX_SEGMENTS + 1) + data[place:], 1000)


def test_a_thumbnail_in_the_metadata_is_not_counted() -> None:
    thumbnail = jpeg(coffee().resize((160, 120)))
    data = encode(is_progressive=False)
    segment = b"\xff\xe1" + (2 + len(thumbnail)).to_bytes(2, "big") + thumbnail

    assert count_scans(data[:2] + segment + data[2:], 1000) == 1


def test_a_scan_of_fewer_components_is_separate() -> None:
    data = bytearray(encode(is_progressive=False))
    data[data.index(b"\xff\xda") + 4] = 1

    assert has_separate_scans(bytes(data), 3)


def test_the_limit_is_exact() -> None:
    check_scans(MAX_SCANS, (1000, 1000))
    check_scans(ORDINARY_SCANS, (8000, 8000))

    with pytest.raises(ImageTooCostly, match="more than 100 scans"):
        check_scans(MAX_SCANS + 1, (64, 64))
    with pytest.raises(ImageTooCostly, match="more than 20 scans"):
        check_scans(ORDINARY_SCANS + 1, (3000, 3000))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe0\xff\xff"])
def test_an_incomplete_file_has_no_scan(data: bytes) -> None:
    assert count_scans(data, 1000) == 0


@given(data=st.binary(max_size=200), start=st.sampled_from([b"\xff\xd8", b"\xff\xd8\xff\xda\x00\x02"]))
def test_any_bytes_are_counted(data: bytes, start: bytes) -> None:
    assert 0 <= count_scans(start + data, 50) <= 50


def test_a_one_channel_image_is_never_separate() -> None:
    buffer = BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")

    assert not has_separate_scans(buffer.getvalue(), 1)
