"""Decoding must equal the reference on every kind of file, and fail with its own errors on everything else."""

import io
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from transformers.image_utils import load_image

from shared.errors import ClientError, ImageTooLarge, NotAnImage, TruncatedImage
from worker.pipeline.decode import decode

MAX_PIXELS = 10_000_000


def photo(mode: str, *, width: int = 37, height: int = 23) -> Image.Image:
    """Smooth colours with some noise, so that every channel and orientation can be told apart."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    colours = np.stack([x * 255 / width, y * 255 / height, (x + y) * 2], axis=2) + rng.normal(0, 8, (height, width, 3))
    rgb = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 7)
    if mode in ("RGBA", "LA"):
        alpha = Image.fromarray((x * 255 // width).astype(np.uint8))
        image = rgb.convert(mode)
        image.putalpha(alpha)
        return image
    return rgb.convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: object) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def reference(data: bytes) -> np.ndarray:
    return np.asarray(load_image(Image.open(io.BytesIO(data))))


def assert_as_reference(data: bytes) -> None:
    image = decode(data, max_pixels=MAX_PIXELS)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), reference(data))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *[("JPEG", mode) for mode in ("RGB", "L", "CMYK")],
        *[("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")],
        *[("WEBP", mode) for mode in ("RGB", "RGBA")],
        *[("BMP", mode) for mode in ("RGB", "L", "P", "1", "RGBA")],
        *[("TIFF", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "F", "LAB")],
        *[("GIF", mode) for mode in ("P", "L", "RGB")],
    ],
)
def test_every_kind_of_file_decodes_as_the_reference_does(kind: str, mode: str) -> None:
    assert_as_reference(encoded(photo(mode), kind))


@pytest.mark.filterwarnings(
    "ignore:Palette images with Transparency"
)  # the reference lets Pillow warn, decode does not
@pytest.mark.parametrize("transparency", [3, bytes(range(0, 256, 2))])
def test_a_palette_with_alpha_decodes_as_the_reference_does(transparency: int | bytes) -> None:
    assert_as_reference(encoded(photo("P"), "PNG", transparency=transparency))


def test_a_palette_with_alpha_does_not_warn() -> None:
    image = decode(encoded(photo("P"), "PNG", transparency=bytes(100)), max_pixels=MAX_PIXELS)

    assert image.mode == "RGB"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_as_the_reference_turns_it(kind: str, orientation: int) -> None:
    assert_as_reference(encoded(photo("RGB"), kind, exif=turned(orientation)))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    assert_as_reference(encoded(photo("RGB"), "JPEG", exif=turned(orientation)))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
def test_compressed_tiff_decodes_and_turns_as_the_reference_does(compression: str) -> None:
    assert_as_reference(encoded(photo("RGB"), "TIFF", compression=compression, exif=turned(6)))


def test_orientation_in_xmp_counts_as_it_does_for_the_reference() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'

    assert_as_reference(encoded(photo("RGB"), "JPEG", xmp=xmp))


def test_orientation_behind_the_pixels_of_a_png_counts_as_it_does_for_the_reference() -> None:
    plain = encoded(photo("RGB"), "PNG")
    end = plain.rindex(b"IEND") - 4
    late = io.BytesIO()
    PngImagePlugin.putchunk(late, b"eXIf", turned(6).tobytes()[6:])

    assert_as_reference(plain[:end] + late.getvalue() + plain[end:])


def test_broken_metadata_does_not_cost_the_photo() -> None:
    good = photo("RGB")
    data = encoded(good, "PNG", exif=b"Exif\x00\x00this is no metadata")

    image = decode(data, max_pixels=MAX_PIXELS)

    assert np.array_equal(np.asarray(image), np.asarray(good))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [photo("RGB"), photo("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)]

    assert_as_reference(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_a_multi_picture_jpeg_is_read_as_its_first_picture() -> None:
    data = encoded(photo("RGB"), "MPO", save_all=True, append_images=[photo("L")])

    assert_as_reference(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_file_that_stops_in_its_middle_is_truncated_or_no_image(kind: str) -> None:
    data = encoded(photo("RGB"), kind)

    with pytest.raises((TruncatedImage, NotAnImage)):
        decode(data[: len(data) * 2 // 3], max_pixels=MAX_PIXELS)


def test_a_jpeg_that_stops_in_its_pixels_is_called_truncated() -> None:
    data = encoded(photo("RGB", width=300, height=200), "JPEG")

    with pytest.raises(TruncatedImage):
        decode(data[: len(data) // 2], max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_too_many_pixels_are_refused_with_both_numbers_named(kind: str) -> None:
    data = encoded(photo("RGB", width=40, height=30), kind)

    with pytest.raises(ImageTooLarge, match=r"1200 pixels \(40 x 30\), at most 1199"):
        decode(data, max_pixels=1199)


def test_a_header_that_claims_a_giant_is_refused_before_decoding() -> None:
    data = bytearray(encoded(photo("L"), "BMP"))
    data[18:26] = struct.pack("<ii", 1_000_000, 1_000_000)

    with pytest.raises(ImageTooLarge):
        decode(bytes(data), max_pixels=MAX_PIXELS)


def test_a_gif_whose_frame_is_a_giant_is_refused() -> None:
    data = bytearray(encoded(photo("P"), "GIF"))
    frame = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[frame + 5 : frame + 9] = struct.pack("<HH", 65535, 65535)

    with pytest.raises(ImageTooLarge):
        decode(bytes(data), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"/etc/passwd",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"P6 1 1 255\n\x00\x00\x00",
        b"\xff\xd8\xff",
        b"BM",
        b"II*\x00",
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    ],
)
def test_what_is_no_picture_of_a_known_format_is_refused(data: bytes) -> None:
    with pytest.raises(NotAnImage):
        decode(data, max_pixels=MAX_PIXELS)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]), seed=st.integers(0, 2**32))
def test_a_damaged_file_gives_a_picture_or_an_error_of_the_caller(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(encoded(photo("P" if kind == "GIF" else "RGB"), kind))
    for _ in range(rng.randint(1, 12)):
        data[rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 120))] = rng.randrange(256)
    del data[rng.randint(len(data) // 2, len(data)) :]

    try:
        image = decode(bytes(data), max_pixels=MAX_PIXELS)
    except ClientError:
        return

    assert image.mode == "RGB"
