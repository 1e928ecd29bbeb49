"""TIFFs of several images: documents, previews of all kinds, and the raw files of cameras, which are TIFFs too."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.real_files.files import RealFile, refuse, same, variants
from tests.real_files.photos import cat_samples, deepen, grey_cat, grey_twin, portrait, preview
from tests.real_files.tiff_writer import (
    BLACK_IS_ZERO,
    BYTES,
    LONG,
    RGB,
    SHORT,
    SUBFILE,
    TEXT,
    Page,
    Tag,
    build_tiff,
    describe,
)
from tests.support.images import encode

PREVIEW = {SUBFILE: (LONG, [1])}  # NewSubfileType: a reduced version of another image of the file
PAGE = {SUBFILE: (LONG, [2])}
MASK = {SUBFILE: (LONG, [4])}
NEGATIVE = {50706: (BYTES, bytes((1, 4, 0, 0)))}  # DNGVersion
_COLOUR_FILTERS = 32803  # PhotometricInterpretation of raw samples, one colour each
_LINEAR = 34892
_JPEG = 7


def page(image: Image.Image, tags: dict[int, Tag] | None = None, children: Sequence[Page] = ()) -> Page:
    """Return an RGB image of 8 bits as a page."""
    samples = np.asarray(image.convert("RGB"))
    return Page(describe(samples, 8, RGB) | (tags or {}), [samples.tobytes()], children)


def grey_page(samples: NDArray[np.generic], tags: dict[int, Tag] | None = None) -> Page:
    """Return grey samples of whole bytes as a page."""
    return Page(describe(samples, 8 * samples.itemsize, BLACK_IS_ZERO) | (tags or {}), [samples.tobytes()])


def jpeg_page(image: Image.Image, tags: dict[int, Tag]) -> Page:
    """Return a page whose strip is a JPEG."""
    samples = np.asarray(image)
    return Page(describe(samples, 8, 6) | {259: (SHORT, [_JPEG])} | tags, [encode(image, "JPEG")])


def sensor(photometric: int = _COLOUR_FILTERS) -> Page:
    """Return the samples of a sensor, as digital negatives have them in a child of their preview."""
    samples = deepen(cat_samples()) >> 2
    pattern = {33421: (SHORT, [2, 2]), 33422: (BYTES, bytes((0, 1, 1, 2)))}
    tags = describe(samples, 16, photometric) | {SUBFILE: (LONG, [0])} | pattern
    return Page(tags, [samples.tobytes()])


def camera(maker: bytes, more: dict[int, Tag] | None = None) -> bytes:
    """Return the raw file of a camera of that maker: a preview whose child has the samples."""
    tags: dict[int, Tag] = PREVIEW | {271: (TEXT, maker + b"\0"), 272: (TEXT, b"Model 1\0")} | (more or {})
    return build_tiff(page(preview(), tags, [sensor()]))


def canon() -> bytes:
    """Return the form of a CR2: a mark behind the header, then the first of four directories; the last has the samples.

    The directory replaces the first pixels.
    """
    data = build_tiff(page(portrait(), {271: (TEXT, b"Canon\0")}), page(preview()), page(preview()), sensor())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    directory = data[start : start + 2 + 12 * count + 4]
    return b"II*\0" + struct.pack("<I", 16) + b"CR\2\0" + bytes(4) + directory + data[16 + len(directory) :]


FILES: Sequence[RealFile] = (
    same("a preview first", lambda: build_tiff(page(preview(), PREVIEW), page(portrait())), portrait),
    same(
        "a preview of 8 bits before 16 bits",
        lambda: build_tiff(page(preview(), PREVIEW), grey_page(deepen(cat_samples()))),
        grey_twin,
    ),
    same(
        "a preview whose child is the photo",
        lambda: build_tiff(page(preview(), PREVIEW, [page(portrait(), {SUBFILE: (LONG, [0])})])),
        portrait,
    ),
    same("a preview without a mark", lambda: build_tiff(page(preview()), page(portrait())), portrait),
    same("a page before a larger one", lambda: build_tiff(page(grey_cat()), page(portrait())), grey_twin),
    same(
        "a pyramid of sizes",
        lambda: build_tiff(
            page(portrait()), *(page(portrait().resize((320 // n, 240 // n)), PREVIEW) for n in (2, 4, 8))
        ),
        portrait,
    ),
    same(
        "a document of three pages",
        lambda: build_tiff(page(portrait(), PAGE), page(grey_cat(), PAGE), page(portrait().rotate(90), PAGE)),
        portrait,
    ),
    same("a stack of a microscope", lambda: build_tiff(*[grey_page(deepen(cat_samples()))] * 5), grey_twin),
    *variants(
        same("a preview that is a JPEG", lambda: build_tiff(jpeg_page(preview(), PREVIEW), page(portrait())), portrait),
        same("a preview behind the photo", lambda: build_tiff(page(portrait()), page(preview(), PREVIEW)), portrait),
        same(
            "a preview as a child", lambda: build_tiff(page(portrait(), children=[page(preview(), PREVIEW)])), portrait
        ),
        same("a mask behind the photo", lambda: build_tiff(page(portrait()), page(grey_cat(), MASK)), portrait),
        same(
            "a document as Pillow writes it",
            lambda: encode(portrait(), "TIFF", save_all=True, append_images=[portrait().rotate(180)]),
            portrait,
        ),
    ),
    refuse("a digital negative (DNG)", "raw", lambda: camera(b"Cam", NEGATIVE)),
    refuse(
        "a digital negative without preview", "raw", lambda: build_tiff(Page(sensor().tags | NEGATIVE, sensor().strips))
    ),
    refuse("a linear digital negative", "raw", lambda: build_tiff(page(preview(), PREVIEW, [sensor(_LINEAR)]))),
    refuse("a raw file of Canon (CR2)", "raw", canon),
    refuse("a raw file of Nikon (NEF)", "raw", lambda: camera(b"NIKON CORPORATION")),
    refuse("a raw file of Sony (ARW)", "raw", lambda: camera(b"SONY")),
)
