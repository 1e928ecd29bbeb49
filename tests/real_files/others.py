"""Files of other formats, each of which is refused by its name, and files that are no images at all."""

import gzip
import io
import struct
import zipfile
from collections.abc import Sequence

import imagecodecs
import numpy as np

from tests.real_files.files import RealFile, encode_plainly, refuse
from tests.real_files.photos import grey_cat, portrait, portrait_samples
from tests.support.heif import box
from tests.support.images import encode

_JPEG_XL_BOXES = b"\0\0\0\x0cJXL \r\n\x87\n"


def jpeg_xl() -> bytes:
    return bytes(imagecodecs.jpegxl_encode(portrait_samples(), 90, usecontainer=False))


def jpeg_xl_in_boxes() -> bytes:
    return _JPEG_XL_BOXES + box(b"ftyp", b"jxl ", bytes(4), b"jxl ") + box(b"jxlc", jpeg_xl())


def jpeg_2000(kind: str) -> bytes:
    """Return JPEG 2000: its boxes (jp2) or the codes alone (j2k)."""
    return bytes(imagecodecs.jpeg2k_encode(portrait_samples(), 40, codecformat=kind))


def photoshop() -> bytes:
    head = b"8BPS" + struct.pack(">H6sHIIHH", 1, bytes(6), 3, 240, 320, 8, 3)
    return head + bytes(12) + b"\0\0" + np.moveaxis(portrait_samples(), 2, 0).tobytes()


def floats(kind: bytes) -> bytes:
    """Return a portable float map."""
    return kind + b"\n320 240\n-1.0\n" + portrait_samples().astype("<f4").tobytes()


def plain(kind: bytes) -> bytes:
    """Return a portable map of the old form, whose values are digits; kind P1, P2 or P3."""
    most = b"" if kind == b"P1" else b"255\n"
    return kind + b"\n# made by hand\n2 2\n" + most + b"0 1 1 0 " * 3


def arbitrary_map() -> bytes:
    return b"P7\nWIDTH 320\nHEIGHT 240\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + portrait_samples().tobytes()


def open_exr() -> bytes:
    return b"v/1\x01" + struct.pack("<I", 2) + b"channels\0chlist\0" + bytes(500)


def radiance() -> bytes:
    return bytes(imagecodecs.rgbe_encode((portrait_samples() / 255).astype(np.float32)))


def film(brand: bytes) -> bytes:
    return box(b"ftyp", brand, bytes(4), brand, b"mp41") + box(b"moov", bytes(500)) + box(b"mdat", bytes(5000))


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("photo.png", encode_plainly(portrait()))
    return buffer.getvalue()


def draw_svg(start: bytes) -> bytes:
    return start + b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


def document() -> bytes:
    return b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" + bytes(range(256))


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, portrait_samples())
    return buffer.getvalue()


def page() -> bytes:
    return b"<!DOCTYPE html>\n<html><head><title>Not found</title></head><body>404</body></html>"


FILES: Sequence[RealFile] = (
    refuse("JPEG XL", "JPEG XL", jpeg_xl),
    refuse("JPEG XL in boxes", "JPEG XL", jpeg_xl_in_boxes),
    refuse("JPEG 2000", "JPEG 2000", lambda: jpeg_2000("jp2")),
    refuse("JPEG 2000 without boxes", "JPEG 2000", lambda: jpeg_2000("j2k")),
    refuse("JPEG XR", "JPEG XR", lambda: bytes(imagecodecs.jpegxr_encode(portrait_samples()))),
    refuse("icon", "ICO", lambda: encode(portrait().resize((64, 64)), "ICO")),
    refuse("cursor", "CUR", lambda: b"\0\0\2\0" + encode(portrait().resize((64, 64)), "ICO")[4:]),
    refuse("icon of macOS", "ICNS", lambda: encode(portrait().resize((64, 64)), "ICNS")),
    refuse("PBM", "PBM", lambda: encode(grey_cat().convert("1"), "PPM")),
    refuse("PGM", "PGM", lambda: encode(grey_cat(), "PPM")),
    refuse("PPM", "PPM", lambda: encode(portrait(), "PPM")),
    refuse("PBM of digits", "PBM", lambda: plain(b"P1")),
    refuse("PGM of digits", "PGM", lambda: plain(b"P2")),
    refuse("PPM of digits", "PPM", lambda: plain(b"P3")),
    refuse("PAM", "PAM", arbitrary_map),
    refuse("PFM", "PFM", lambda: floats(b"PF")),
    refuse("PFM, grey", "PFM", lambda: floats(b"Pf")),
    refuse("Photoshop", "Photoshop", photoshop),
    refuse("SVG", "SVG", lambda: draw_svg(b"")),
    refuse("SVG behind an XML declaration", "SVG", lambda: draw_svg(b'<?xml version="1.0"?>\n<!-- a comment -->\n')),
    refuse("PDF", "PDF", document),
    refuse("PostScript", "PostScript", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    refuse("Targa, which has no signature", "image", lambda: encode(portrait(), "TGA")),
    refuse("OpenEXR", "EXR", open_exr),
    refuse("Radiance", "HDR", radiance),
    refuse("QOI", "QOI", lambda: bytes(imagecodecs.qoi_encode(portrait_samples()))),
    refuse("DDS", "DDS", lambda: encode(portrait(), "DDS")),
    refuse("DICOM", "DICOM", lambda: bytes(128) + b"DICM\2\0\0\0UL\4\0" + bytes(500)),
    refuse("FITS", "FITS", lambda: b"SIMPLE  =                    T".ljust(2880)),
    refuse("array of NumPy", "NumPy", array),
    refuse("a raw file of Canon (CR3)", "raw", lambda: film(b"crx ")),
    refuse("a raw file of Fujifilm (RAF)", "raw", lambda: b"FUJIFILMCCD-RAW 0201FF383501" + bytes(500)),
    refuse("a raw file of Panasonic (RW2)", "raw", lambda: b"IIU\0\x18\0\0\0" + bytes(500)),
    refuse("a raw file of Olympus (ORF)", "raw", lambda: b"IIRO\x08\0\0\0" + bytes(500)),
    refuse("MP4", "film", lambda: film(b"isom")),
    refuse("QuickTime", "film", lambda: film(b"qt  ")),
    refuse("WebM", "film", lambda: b"\x1aE\xdf\xa3\x9fB\x86\x81\1" + bytes(500)),
    refuse("ZIP", "ZIP", archive),
    refuse("a PNG in gzip", "gzip", lambda: gzip.compress(encode_plainly(portrait()))),
    refuse("HTML", "page", page),
    refuse("text", "image", lambda: b"This is not an image, it is a sentence."),
    refuse("zeros", "image", lambda: bytes(1000)),
    refuse("nothing", "", lambda: b""),
)
