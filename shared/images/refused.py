"""Files that are not supported, named by their signatures, so that a client learns what to send instead."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from shared.errors import NotAnImage
from shared.images.formats import FORMATS, detect_image_format, list_brands

_START_BYTES = 1024
_CONVERT = f"send it as {FORMATS}"
_EXPORT = "export it as JPEG, PNG or TIFF"
_DEVELOP = "develop it, or send the JPEG that the camera stored beside it"
_FRAME = "send one frame as JPEG or PNG"
_PAGE = "send a page as PNG or JPEG"
_RENDER = "draw it to PNG at the size that you want"


@dataclass(frozen=True, slots=True)
class _Refused:
    """What a file is, with its article; whether one is that, by its first bytes; and what to do."""

    what: str
    is_that: Callable[[bytes], object]
    advice: str = _CONVERT


def _starts(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda start: start.startswith(signatures)


def _holds(at: int, signature: bytes) -> Callable[[bytes], bool]:
    # At such a place the pixels of a TIFF may be; and a DICOM file may be one at the same time (DICOM PS3.10, 7.1).
    return lambda start: start.startswith(signature, at) and detect_image_format(start) is None


def _has_brand(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda start: start[4:8] == b"ftyp" and bool({*brands} & {*list_brands(start)})


def _is_film(start: bytes) -> bool:
    is_box = start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"pnot") and start[:2] == b"\0\0"
    return is_box and detect_image_format(start) is None


def _is_svg(start: bytes) -> bool:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text


_TEXT_START = rb"(?:\xef\xbb\xbf)?[ \t\r\n]*"
_TABLE = (
    _Refused("A JPEG XL image", _starts(b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
    _Refused("A JPEG 2000 image", _starts(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    _Refused("A JPEG XR image", _starts(b"II\xbc\x01")),
    _Refused("A Canon RAW image (CR3)", _has_brand(b"crx "), _DEVELOP),
    _Refused("A Canon RAW image (CR2)", _starts(b"II*\0\x10\0\0\0CR\x02"), _DEVELOP),
    _Refused("A Canon RAW image (CRW)", _holds(6, b"HEAPCCDR"), _DEVELOP),
    _Refused("A Fujifilm RAW image (RAF)", _starts(b"FUJIFILMCCD-RAW"), _DEVELOP),
    _Refused("An Olympus RAW image (ORF)", _starts(b"IIRO", b"IIRS", b"MMOR"), _DEVELOP),
    _Refused("A Panasonic RAW image (RW2)", _starts(b"IIU\0"), _DEVELOP),
    _Refused("A Sigma RAW image (X3F)", _starts(b"FOVb"), _DEVELOP),
    _Refused("A Minolta RAW image (MRW)", _starts(b"\0MRM"), _DEVELOP),
    _Refused("An icon (ICO)", re.compile(rb"\0\0\x01\0[^\0]\0").match),
    _Refused("A cursor (CUR)", re.compile(rb"\0\0\x02\0[^\0]\0").match),
    _Refused("An icon (ICNS)", _starts(b"icns")),
    _Refused("A Photoshop document", _starts(b"8BPS"), _EXPORT),
    _Refused("A GIMP document", _starts(b"gimp xcf"), _EXPORT),
    _Refused("A PNM image (PBM, PGM, PPM, PAM or PFM)", re.compile(rb"P[1-7Ff][ \t\r\n]").match),
    _Refused("A Radiance HDR image", _starts(b"#?RADIANCE", b"#?RGBE")),
    _Refused("An OpenEXR image", _starts(b"\x76\x2f\x31\x01")),
    _Refused("A QOI image", _starts(b"qoif")),
    _Refused("A DDS texture", _starts(b"DDS ")),
    _Refused("A BPG image", _starts(b"BPG\xfb")),
    _Refused("An MNG animation", _starts(b"\x8aMNG", b"\x8bJNG"), _FRAME),
    _Refused("A DICOM image", _holds(128, b"DICM")),
    _Refused("A FITS image", _starts(b"SIMPLE  =")),
    _Refused("An array of NumPy", _starts(b"\x93NUMPY")),
    _Refused("An SVG drawing", _is_svg, _RENDER),
    _Refused("A PostScript document", _starts(b"%!PS", b"\xc5\xd0\xd3\xc6"), _PAGE),
    _Refused("A PDF document", re.compile(_TEXT_START + b"%PDF-").match, _PAGE),
    _Refused("A DjVu document", _starts(b"AT&TFORM"), _PAGE),
    _Refused("A Windows metafile", _starts(b"\xd7\xcd\xc6\x9a"), _RENDER),
    _Refused("A ZIP archive", _starts(b"PK\3\4", b"PK\5\6"), "unpack it and send one image at a time"),
    _Refused("An AVI film", lambda start: start[:4] == b"RIFF" and start[8:12] == b"AVI ", _FRAME),
    _Refused("A Matroska or WebM film", _starts(b"\x1a\x45\xdf\xa3"), _FRAME),
    _Refused("An AVIF or HEIC image with a minimized header", _has_brand(b"mif3")),
    _Refused("An MP4 or QuickTime film", _is_film, _FRAME),
)


def require_image_format(data: bytes) -> str:
    """Return the format of a file, as detect_image_format() does.

    Raises:
        NotAnImage: it is not supported; the sentence names what it is, if that is known.
    """
    name = detect_image_format(data)
    # RAW images of some cameras have the signature of TIFF too.
    if name not in (None, "tiff"):
        return name
    sentence = explain_refusal(data)
    if name is None or sentence is not None:
        raise NotAnImage(sentence or f"The bytes are not a {FORMATS} image")
    return name


def explain_refusal(data: bytes) -> str | None:
    """Return a sentence for a file of a format that is known and not supported; None for any other."""
    start = data[:_START_BYTES]
    found = next((one for one in _TABLE if one.is_that(start)), None)
    return f"{found.what} is not supported: {found.advice}" if found else None
