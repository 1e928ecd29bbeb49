"""A file of a format that is not supported is named, with what to send instead."""

import re
import struct
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from api.http.bodies import parse_body
from shared.errors import ClientError, NotAnImage
from shared.images.formats import detect_image_format
from shared.images.refused import explain_refusal
from shared.jobs.inspection import inspect_image
from tests.support.heif import KINDS, box, save
from tests.support.images import coffee, jpeg
from tests.support.tiffs import build_tiff


def encode(kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    coffee().resize((32, 32)).save(buffer, kind, **options)
    return buffer.getvalue()


def film(*brands: bytes) -> bytes:
    return box(b"ftyp", brands[0], bytes(4), *brands) + box(b"moov", bytes(200))


def jpeg_with_frame(marker: int, bits: int = 8) -> bytes:
    data = bytearray(jpeg(coffee()))
    place = data.index(b"\xff\xc0")
    data[place + 1], data[place + 4] = marker, bits
    return bytes(data)


FILES: dict[str, tuple[str, bytes]] = {
    "JPEG XL codestream": ("JPEG XL", b"\xff\x0a" + bytes(100)),
    "JPEG XL container": ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100)),
    "JP2": ("JPEG 2000", encode("JPEG2000")),
    "JPEG 2000 codestream": ("JPEG 2000", encode("JPEG2000", no_jp2=True)),
    "JPEG XR": ("JPEG XR", b"II\xbc\x01" + bytes(100)),
    "ICO": (r"icon \(ICO\)", encode("ICO")),
    "CUR": (r"cursor \(CUR\)", b"\0\0\2\0\1\0" + encode("ICO")[6:]),
    "ICNS": ("icon", encode("ICNS")),
    "PPM": ("PNM", encode("PPM")),
    "PGM as text": ("PNM", b"P2\n2 2\n255\n0 1 2 3\n"),
    "PAM": ("PNM", b"P7\nWIDTH 2\nHEIGHT 2\n"),
    "PFM": ("PNM", b"PF\n2 2\n-1.0\n" + bytes(48)),
    "PSD": ("Photoshop", b"8BPS\0\1" + bytes(100)),
    "XCF": ("GIMP", b"gimp xcf v011\0" + bytes(100)),
    "CR2": (r"RAW image \(CR2\).*develop it", b"II*\0\x10\0\0\0CR\2\0" + bytes(500)),
    "CR3": (r"RAW image \(CR3\)", film(b"crx ", b"isom")),
    "CRW": ("RAW", b"II\x1a\0\0\0HEAPCCDR" + bytes(100)),
    "RAF": ("Fujifilm RAW", b"FUJIFILMCCD-RAW 0201" + bytes(100)),
    "ORF": ("Olympus RAW", b"IIRO\x08\0\0\0" + bytes(100)),
    "RW2": ("Panasonic RAW", b"IIU\0\x18\0\0\0" + bytes(100)),
    "X3F": ("Sigma RAW", b"FOVb" + bytes(100)),
    "SVG": ("SVG drawing", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    "SVG with a declaration": ("SVG drawing", b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n<svg/>'),
    "PDF": ("PDF document.*page", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
    "EPS": ("PostScript", encode("EPS")),
    "EPS with a preview": ("PostScript", b"\xc5\xd0\xd3\xc6" + bytes(100)),
    "HDR": ("Radiance", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n"),
    "EXR": ("OpenEXR", b"\x76\x2f\x31\x01" + bytes(100)),
    "QOI": ("QOI", encode("QOI")),
    "DDS": ("DDS", encode("DDS")),
    "DICOM": ("DICOM", bytes(128) + b"DICM" + bytes(50)),
    "FITS": ("FITS", b"SIMPLE  =                    T" + b" " * 50),
    "MNG": ("MNG", b"\x8aMNG\r\n\x1a\n" + bytes(100)),
    "NumPy": ("NumPy", b"\x93NUMPY\1\0" + bytes(100)),
    "MP4": ("film.*frame", film(b"isom", b"iso2", b"avc1", b"mp41")),
    "MOV": ("film.*frame", film(b"qt  ")),
    "MOV without brands": ("film.*frame", b"\0\0\0\x08wide" + box(b"mdat", bytes(100))),
    "WebM": ("film", b"\x1a\x45\xdf\xa3" + bytes(100)),
    "AVI": ("film", b"RIFF\0\1\0\0AVI LIST" + bytes(100)),
    "ZIP": ("ZIP archive.*unpack", b"PK\3\4" + bytes(100)),
    "minimized AVIF": ("minimized", box(b"ftyp", b"mif3", b"avif") + bytes(100)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_supported_is_named(name: str) -> None:
    what, data = FILES[name]

    with pytest.raises(NotAnImage, match=what) as raised:
        inspect_image(parse_body(data, "application/octet-stream", {}).image, max_pixels=10_000)

    assert re.search("is not supported: (send|unpack|export|develop|draw) ", str(raised.value))


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("JPEG-LS", jpeg_with_frame(0xF7)),
        ("hierarchical", jpeg_with_frame(0xC5)),
        ("12 bits a sample", jpeg_with_frame(0xC1, 12)),
    ],
)
def test_a_jpeg_that_no_decoder_has_is_named(what: str, data: bytes) -> None:
    with pytest.raises(NotAnImage, match=f"{what}.*not supported: send"):
        inspect_image(data, max_pixels=1_000_000)


def test_no_file_of_a_supported_format_is_refused() -> None:
    kinds = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
    files = [*(encode(kind) for kind in kinds), *(save(coffee().resize((64, 64)), kind) for kind in KINDS)]

    assert [explain_refusal(data) for data in files] == [None] * len(files)
    assert [detect_image_format(data) for data in files] == [
        "jpeg",
        "png",
        "webp",
        "bmp",
        "tiff",
        "gif",
        "heic",
        "avif",
    ]


@pytest.mark.parametrize(
    ("brands", "expected"),
    [
        ((b"heic", b"mif1"), "heic"),
        ((b"mif1", b"heic"), "heic"),
        ((b"mif1", b"avif"), "avif"),
        ((b"msf1", b"hevc"), "heic"),
        ((b"avis", b"avif", b"msf1"), "avif"),
        ((b"MiHE", b"mif1"), "heic"),
        ((b"isom", b"mp42"), None),
        ((b"mif1", b"vvic"), "heic"),  # its items name the codec
    ],
)
def test_the_brands_tell_the_format(brands: tuple[bytes, ...], expected: str | None) -> None:
    assert detect_image_format(box(b"ftyp", brands[0], bytes(4), *brands)) == expected


@given(st.sampled_from([data[:24] for _, data in FILES.values()]), st.binary(max_size=200))
def test_any_bytes_are_refused_or_named(start: bytes, rest: bytes) -> None:
    for data in (start + rest, rest, struct.pack(">I", len(rest)) + b"ftyp" + rest):
        try:
            inspect_image(data, max_pixels=1000)
        except ClientError as error:
            assert str(error)


def test_a_lossless_jpeg_is_supported() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = np.asarray(coffee().resize((32, 32)))

    assert inspect_image(imagecodecs.jpeg8_encode(pixels, lossless=True), max_pixels=10_000).format == "jpeg"


def test_pixels_that_look_like_the_mark_of_a_raw_image_are_no_raw_image() -> None:
    image = np.full((4, 4, 3), (67, 82, 99), np.uint8)  # "CR", at byte 8 of the file
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "TIFF")
    directory, pixels = buffer.getvalue(), image.tobytes()
    assert explain_refusal(b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory) is None


def test_a_tiff_that_has_the_mark_of_dicom_is_a_tiff() -> None:
    pixels = bytes(120) + b"DICM" + bytes(132)  # from byte 8 of the file on

    assert inspect_image(build_tiff(pixels, size=(16, 16), bits=[8], photometric=1), max_pixels=256).format == "tiff"
