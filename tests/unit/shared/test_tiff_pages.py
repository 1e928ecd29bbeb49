"""Of a TIFF with several images the photo is taken, at the gateway and in the decoder, and RAW files are named."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from shared.errors import ImageTooLarge, NotAnImage, TruncatedImage
from shared.images.tiff_pages import MAX_DIRECTORIES, choose_directory
from shared.jobs.inspection import inspect_image
from tests.support.images import EXIF_ORIENTATION, coffee
from tests.support.tiffs import build_tiff
from worker.decoding.pixels import decode

MAX_PIXELS = 1_000_000
PHOTO = np.asarray(coffee().resize((120, 80)))
PREVIEW = np.asarray(coffee().resize((30, 20))) // 2
OTHER = np.asarray(coffee().resize((60, 40))) // 3
CFA = np.zeros((200, 300), np.uint16)
REDUCED, PAGE, MASK = 1, 2, 4


@dataclass(frozen=True)
class Part:
    """An image of a file: its pixels, NewSubfileType, and the images in its sub-directories."""

    pixels: np.ndarray
    subfile: int = 0
    children: Sequence["Part"] = field(default=())
    options: dict[str, Any] = field(default_factory=dict)


def build(*parts: Part, big: bool = False, order: str = "<") -> bytes:
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=big, byteorder=order) as writer:
        for part in parts:
            write(writer, part, subifds=len(part.children) or None)
            for child in part.children:
                write(writer, child)
    return buffer.getvalue()


def write(writer: tifffile.TiffWriter, part: Part, **options: Any) -> None:
    colours = "rgb" if part.pixels.ndim == 3 else "minisblack"
    all_options = {"photometric": colours, **part.options, **options}
    writer.write(part.pixels, subfiletype=part.subfile, metadata=None, **all_options)


def assert_is(data: bytes, expected: np.ndarray) -> None:
    facts = inspect_image(data, max_pixels=MAX_PIXELS)

    assert (facts.height, facts.width) == expected.shape[:2]
    assert np.array_equal(np.asarray(decode(data, max_pixels=MAX_PIXELS)), expected)


FILES = {
    "a photo in a sub-directory": build(Part(PREVIEW, REDUCED, [Part(PHOTO)])),
    "a photo in the second of two": build(Part(PREVIEW, REDUCED, [Part(OTHER, REDUCED), Part(PHOTO)])),
    "a photo behind its preview": build(Part(PREVIEW, REDUCED), Part(PHOTO)),
    "a photo behind a preview and a page": build(Part(PREVIEW, REDUCED), Part(OTHER, PAGE), Part(PHOTO, PAGE)),
    "a preview that is not marked": build(Part(PREVIEW, 0, [Part(PHOTO)])),
    "a photo behind a preview without a mark": build(Part(PREVIEW), Part(PHOTO)),
    "a photo behind a preview that was rounded": build(Part(PREVIEW[:, :29]), Part(PHOTO)),
    "a photo behind a preview without a mark, and others": build(
        Part(PREVIEW), Part(OTHER), Part(PHOTO), Part(np.tile(PHOTO, (3, 2, 1))), Part(np.ones((800, 1200), bool), MASK)
    ),
    "a photo behind a mask": build(Part(np.ones((80, 120), bool), MASK), Part(PHOTO)),
    "a preview and a larger mask": build(Part(PREVIEW, REDUCED, [Part(PHOTO), Part(np.zeros((800, 600), bool), MASK)])),
    "a big TIFF": build(Part(PREVIEW, REDUCED, [Part(PHOTO)]), big=True),
    "a TIFF of the other order": build(Part(PREVIEW, REDUCED, [Part(PHOTO)]), order=">"),
    "a compressed photo in tiles": build(
        Part(PREVIEW, REDUCED, [Part(PHOTO, options={"compression": "deflate", "tile": (32, 32)})])
    ),
    # These are the first.
    "pages of a document": build(Part(PHOTO, PAGE), Part(np.tile(PHOTO, (2, 2, 1)), PAGE)),
    "images without marks": build(Part(PHOTO), Part(np.tile(PHOTO, (2, 1, 1)))),
    "photos of any size": build(Part(PHOTO), Part(np.tile(PHOTO, (3, 2, 1))), Part(np.tile(PHOTO, (2, 2, 1)))),
    "two sizes of paper": build(Part(PHOTO), Part(np.repeat(np.repeat(PHOTO, 2, 0), 2, 1)[:113, :170])),
    "a photo and a larger mask": build(Part(PHOTO), Part(np.ones((160, 240), bool), MASK)),
    "a pyramid": build(Part(PHOTO, 0, [Part(OTHER, REDUCED), Part(PREVIEW, REDUCED)])),
    "a preview behind its photo": build(Part(PHOTO), Part(PREVIEW, REDUCED)),
    "a preview without a photo": build(Part(PHOTO, REDUCED)),
    "a photo that is marked as a preview": build(Part(PHOTO, REDUCED), Part(PREVIEW)),
}


@pytest.mark.parametrize("name", FILES)
def test_the_photo_is_taken(name: str) -> None:
    assert_is(FILES[name], PHOTO)


def test_photos_of_one_format_are_no_previews() -> None:
    sides = [(257, 171), (514, 342), (1028, 684)]
    photos = [np.asarray(coffee().resize(side)) for side in sides]

    assert_is(build(*map(Part, photos)), photos[0])
    assert_is(build(*map(Part, (photos[0][:170, :256], *photos[1:]))), photos[2])


def test_a_full_image_that_is_not_accepted_is_named() -> None:
    floats = build(Part(PREVIEW), Part((PHOTO / 255).astype(np.float32)))

    for read in (inspect_image, decode):
        with pytest.raises(NotAnImage, match="floating point samples of 32 bits"):
            read(floats, max_pixels=MAX_PIXELS)
        with pytest.raises(ImageTooLarge, match=r"9600 pixels \(120 x 80\), at most 9599"):
            read(FILES["a photo behind a preview without a mark"], max_pixels=9599)


def test_a_damaged_chain_is_no_fault_of_a_preview_without_a_mark() -> None:
    data = FILES["a photo behind a preview without a mark"]
    second = tifffile.TiffFile(BytesIO(data)).pages[1].offset
    pointer = second + 2 + 12 * struct.unpack_from("<H", data, second)[0]

    assert_is(data[:pointer] + struct.pack("<I", len(data) - 1) + data[pointer + 4 :], PHOTO)


def test_a_next_directory_without_a_size_is_no_full_image() -> None:
    data = build_tiff(PREVIEW.tobytes(), size=(30, 20), bits=[8, 8, 8], photometric=2)
    start = struct.unpack_from("<I", data, 4)[0]
    pointer = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
    tagless = struct.pack("<H", 1) + bytes(12) + bytes(4)

    assert_is(data[:pointer] + struct.pack("<I", len(data)) + data[pointer + 4 :] + tagless, PREVIEW)


def test_an_old_mark_of_a_preview_is_heeded() -> None:
    data = build(Part(PREVIEW, 0, options={"extratags": [(255, 3, 1, 2, True)]}), Part(PHOTO))

    assert_is(data, PHOTO)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_photo_is_turned_by_its_own_orientation(orientation: int) -> None:
    def turn(number: int) -> dict[str, Any]:
        return {"extratags": [(EXIF_ORIENTATION, 3, 1, number, True)]}

    data = build(Part(PREVIEW, REDUCED, [Part(PHOTO, options=turn(orientation))], options=turn(8)))

    assert_is(data, np.rot90(PHOTO, {1: 0, 3: 2, 6: -1}[orientation]))


def test_the_limit_of_pixels_is_that_of_the_photo() -> None:
    for read in (inspect_image, decode):
        with pytest.raises(ImageTooLarge, match=r"9600 pixels \(120 x 80\), at most 9599"):
            read(FILES["a photo in a sub-directory"], max_pixels=9599)


def test_a_photo_of_16_bits_is_scaled() -> None:
    grey = np.asarray(Image.fromarray(PHOTO).convert("L"))

    data = build(Part(PREVIEW, REDUCED, [Part(grey.astype(np.uint16) * 257)]))

    assert_is(data, np.stack([grey] * 3, axis=2))


def test_a_file_that_stops_before_the_photo_is_truncated() -> None:
    data = FILES["a photo behind its preview"]
    second = tifffile.TiffFile(BytesIO(data)).pages[1].offset

    for read in (inspect_image, decode):
        with pytest.raises(TruncatedImage):
            read(data[: second + 1], max_pixels=MAX_PIXELS)


def with_camera(name: str) -> dict[str, Any]:
    return {"extratags": [(271, 2, len(name) + 1, name, True)]}


DNG = {"extratags": [(50706, 1, 4, (1, 4, 0, 0), True)]}
SENSOR = Part(CFA, 0, options={"photometric": "cfa"})
RAW = {
    "DNG": build(Part(PREVIEW, REDUCED, [SENSOR], options=DNG)),
    "DNG, without a preview": build(Part(CFA, 0, options={"photometric": "cfa", **DNG})),
    "DNG, linear": build(Part(PREVIEW, REDUCED, [Part(PHOTO, options={"photometric": 34892})], options=DNG)),
    "such as NEF or ARW": build(Part(PREVIEW, REDUCED, [Part(PHOTO, REDUCED), SENSOR], options=with_camera("NIKON"))),
    "such as NEF or ARW, behind a preview": build(Part(PREVIEW, REDUCED), SENSOR),
}


@pytest.mark.parametrize("name", RAW)
def test_the_data_of_a_sensor_is_refused_by_name(name: str) -> None:
    for read in (inspect_image, decode):
        with pytest.raises(NotAnImage, match=rf"RAW image of a camera \({name.split(',')[0]}\).*export it as JPEG"):
            read(RAW[name], max_pixels=MAX_PIXELS)


def test_a_sub_directory_that_cannot_be_read_is_no_fault_of_a_photo() -> None:
    layout: dict[str, Any] = {"size": (30, 20), "bits": [8, 8, 8], "photometric": 2, "tag_330": ("I", [2**31])}

    assert_is(build_tiff(PREVIEW.tobytes(), **layout), PREVIEW)
    with pytest.raises(TruncatedImage):
        inspect_image(build_tiff(PREVIEW.tobytes(), **layout, tag_254=("I", [REDUCED])), max_pixels=MAX_PIXELS)


def chain(count: int, *, loop: bool = False) -> bytes:
    """Return a preview and many directories without an image behind it, the last of which may lead to the first."""
    data = bytearray(build(Part(PREVIEW, REDUCED)))
    start = struct.unpack_from("<I", data, 4)[0]
    position = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
    for number in range(count):
        struct.pack_into("<I", data, position, len(data))
        position = len(data) + 2
        data += struct.pack("<HI", 0, start if loop and number == count - 1 else 0)
    return bytes(data)


@pytest.mark.parametrize(("count", "loop"), [(1, True), (3, True), (MAX_DIRECTORIES + 5, False), (100_000, True)])
def test_a_chain_is_followed_so_far_and_not_around(count: int, loop: bool) -> None:
    data = chain(count, loop=loop)

    assert choose_directory(data).start == struct.unpack_from("<I", data, 4)[0]
    assert_is(data, PREVIEW)
