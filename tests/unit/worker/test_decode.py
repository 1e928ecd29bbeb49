"""decode() equals the reference on every supported format, and raises errors of this service on other input.

Where the reference is wrong, see test_sample_scaling.py.
"""

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
from tests.support.images import encode
from worker.decoding.pixels import decode

MAX_PIXELS = 10_000_000


def build_image(mode: str, *, width: int = 37, height: int = 23) -> Image.Image:
    """Return gradients with some noise, which differ in every channel and orientation."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    colours = np.stack([x * 255 / width, y * 255 / height, (x + y) * 2], axis=2) + rng.normal(0, 8, (height, width, 3))
    rgb = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    if mode in ("RGBA", "LA"):
        alpha = Image.fromarray((x * 255 // width).astype(np.uint8))
        image = rgb.convert(mode)
        image.putalpha(alpha)
        return image
    return rgb.convert(mode)


def build_exif(orientation: object) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def load_reference(data: bytes) -> np.ndarray:
    return np.asarray(load_image(Image.open(io.BytesIO(data))))


def assert_equals_reference(data: bytes) -> None:
    image = decode(data, max_pixels=MAX_PIXELS)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), load_reference(data))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *[("JPEG", mode) for mode in ("RGB", "L", "CMYK")],
        *[("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")],
        *[("WEBP", mode) for mode in ("RGB", "RGBA")],
        *[("BMP", mode) for mode in ("RGB", "L", "P", "1", "RGBA")],
        *[("TIFF", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "LAB")],
        *[("GIF", mode) for mode in ("P", "L", "RGB")],
    ],
)
def test_every_format_and_mode_decodes_like_the_reference(kind: str, mode: str) -> None:
    assert_equals_reference(encode(build_image(mode), kind))


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # from the reference; decode() does not warn
@pytest.mark.parametrize("transparency", [3, bytes(range(0, 256, 2))])
def test_a_palette_with_alpha_decodes_like_the_reference(transparency: int | bytes) -> None:
    assert_equals_reference(encode(build_image("P"), "PNG", transparency=transparency))


def test_a_palette_with_alpha_does_not_warn() -> None:
    image = decode(encode(build_image("P"), "PNG", transparency=bytes(100)), max_pixels=MAX_PIXELS)

    assert image.mode == "RGB"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_transposed_like_the_reference(kind: str, orientation: int) -> None:
    assert_equals_reference(encode(build_image("RGB"), kind, exif=build_exif(orientation)))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_undefined_orientation_is_ignored(orientation: int) -> None:
    assert_equals_reference(encode(build_image("RGB"), "JPEG", exif=build_exif(orientation)))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
def test_a_compressed_tiff_decodes_and_is_transposed_like_the_reference(compression: str) -> None:
    assert_equals_reference(encode(build_image("RGB"), "TIFF", compression=compression, exif=build_exif(6)))


def test_orientation_in_xmp_is_handled_like_the_reference() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'

    assert_equals_reference(encode(build_image("RGB"), "JPEG", xmp=xmp))


def test_orientation_behind_the_pixels_of_a_png_is_handled_like_the_reference() -> None:
    plain = encode(build_image("RGB"), "PNG")
    end = plain.rindex(b"IEND") - 4
    chunk = io.BytesIO()
    PngImagePlugin.putchunk(chunk, b"eXIf", build_exif(6).tobytes()[6:])

    assert_equals_reference(plain[:end] + chunk.getvalue() + plain[end:])


def test_an_image_with_damaged_metadata_is_decoded() -> None:
    image = build_image("RGB")
    data = encode(image, "PNG", exif=b"Exif\x00\x00this is no metadata")

    decoded = decode(data, max_pixels=MAX_PIXELS)

    assert np.array_equal(np.asarray(decoded), np.asarray(image))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_decodes_to_its_first_frame(kind: str) -> None:
    frames = [build_image("RGB"), build_image("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)]

    assert_equals_reference(encode(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_a_multi_image_jpeg_decodes_to_its_first_image() -> None:
    data = encode(build_image("RGB"), "MPO", save_all=True, append_images=[build_image("L")])

    assert_equals_reference(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_truncated_file_is_rejected(kind: str) -> None:
    data = encode(build_image("RGB"), kind)

    with pytest.raises((TruncatedImage, NotAnImage)):
        decode(data[: len(data) * 2 // 3], max_pixels=MAX_PIXELS)


def test_a_jpeg_with_truncated_pixels_raises_truncated_image() -> None:
    data = encode(build_image("RGB", width=300, height=200), "JPEG")

    with pytest.raises(TruncatedImage):
        decode(data[: len(data) // 2], max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_too_many_pixels_are_rejected_with_both_numbers(kind: str) -> None:
    data = encode(build_image("RGB", width=40, height=30), kind)

    with pytest.raises(ImageTooLarge, match=r"1200 pixels \(40 x 30\), at most 1199"):
        decode(data, max_pixels=1199)


def test_a_header_with_a_huge_size_is_rejected_before_decoding() -> None:
    data = bytearray(encode(build_image("L"), "BMP"))
    data[18:26] = struct.pack("<ii", 1_000_000, 1_000_000)

    with pytest.raises(ImageTooLarge):
        decode(bytes(data), max_pixels=MAX_PIXELS)


def test_a_gif_with_a_huge_frame_is_rejected() -> None:
    data = bytearray(encode(build_image("P"), "GIF"))
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
def test_unsupported_formats_and_incomplete_headers_are_rejected(data: bytes) -> None:
    with pytest.raises((NotAnImage, TruncatedImage)):
        decode(data, max_pixels=MAX_PIXELS)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]), seed=st.integers(0, 2**32))
def test_a_damaged_file_decodes_or_raises_a_client_error(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(encode(build_image("P" if kind == "GIF" else "RGB"), kind))
    for _ in range(rng.randint(1, 12)):
        data[rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 120))] = rng.randrange(256)
    del data[rng.randint(len(data) // 2, len(data)) :]

    try:
        image = decode(bytes(data), max_pixels=MAX_PIXELS)
    except ClientError:
        return

    assert image.mode == "RGB"
