"""PNGs: every colour type and depth, written byte by byte, and what programs put beside the pixels."""

import struct
import zlib
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.real_files.files import RealFile, refuse, same, variants
from tests.real_files.orientation import build_exif, build_xmp, store_turned
from tests.real_files.photos import (
    add_alpha,
    add_noise,
    cat_samples,
    deepen,
    grey_twin,
    indexed_twin,
    palette_image,
    portrait,
    portrait_samples,
    preview,
    reduced_cat,
    reduced_twin,
)
from tests.support.images import encode, png_chunk

Chunk = tuple[bytes, bytes]
GREY, RGB, INDEXED, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# PNG, section 8.2: first column and row, then the steps, of each pass.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_IN_ORDER = ((0, 0, 1, 1),)
_MEGABYTE = 1 << 20


def join(*chunks: Chunk, wrong: bytes = b"") -> bytes:
    """Return the file of these chunks and an end; the checksums of the kind `wrong` are wrong."""
    parts = (png_chunk(kind, content, is_intact=kind != wrong) for kind, content in (*chunks, (b"IEND", b"")))
    return _SIGNATURE + b"".join(parts)


def head(samples: NDArray[np.generic], depth: int, kind: int, *, interlaced: bool = False) -> Chunk:
    height, width = samples.shape[:2]
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)


def pixels(samples: NDArray[np.generic], depth: int, *, interlaced: bool = False) -> Chunk:
    """Return the pixels of (H, W) or (H, W, C), each row with a filter of its own."""
    cube = samples if samples.ndim == 3 else samples[..., None]
    step = max(1, cube.shape[2] * depth // 8)  # bytes from a sample to the one left of it
    rows: list[bytes] = []
    for left, top, across, down in _PASSES if interlaced else _IN_ORDER:
        above = b""
        for number, row in enumerate(cube[top::down, left::across]):
            packed = pack(row.ravel(), depth)
            rows.append(filter_row(packed, above or bytes(len(packed)), step, number % 3))
            above = packed
    return b"IDAT", zlib.compress(b"".join(rows), 1)


def pack(row: NDArray[np.generic], depth: int) -> bytes:
    if depth == 16:
        return row.astype(">u2").tobytes()
    if depth == 8:
        return row.astype(np.uint8).tobytes()
    bits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
    return np.packbits(bits).tobytes()


def filter_row(row: bytes, above: bytes, step: int, kind: int) -> bytes:
    """Return a row with a filter's number before it: 0 is none, 1 the sample to the left, 2 the one above."""
    if not kind:
        return b"\0" + row
    before = (bytes(step) + row)[: len(row)] if kind == 1 else above
    difference = np.frombuffer(row, np.uint8) - np.frombuffer(before, np.uint8)
    return bytes([kind]) + difference.tobytes()


def write(samples: NDArray[np.generic], depth: int, kind: int, *more: Chunk, interlaced: bool = False) -> bytes:
    """Return a PNG; the chunks `more` are between its header and its pixels."""
    return join(head(samples, depth, kind, interlaced=interlaced), *more, pixels(samples, depth, interlaced=interlaced))


def photo(*more: Chunk, behind: Sequence[Chunk] = (), wrong: bytes = b"") -> bytes:
    """Return the portrait with chunks before its pixels and behind them."""
    samples = portrait_samples()
    return join(head(samples, 8, RGB), *more, pixels(samples, 8), *behind, wrong=wrong)


def palette(colours: int) -> Chunk:
    return b"PLTE", bytes(palette_image(colours).getpalette()[: 3 * colours])


def write_indexed(depth: int, *more: Chunk, interlaced: bool = False) -> bytes:
    """Return the portrait of 2^depth colours."""
    samples = np.asarray(palette_image(1 << depth))
    return write(samples, depth, INDEXED, palette(1 << depth), *more, interlaced=interlaced)


def build_wrong_palette() -> bytes:
    samples = np.asarray(palette_image())
    return join(head(samples, 8, INDEXED), palette(256), pixels(samples, 8), wrong=b"PLTE")


def text(nbytes: int) -> Chunk:
    return b"tEXt", b"Comment\0" + b"x" * nbytes


def deflate_text(nbytes: int) -> Chunk:
    return b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * nbytes)


def profile(nbytes: int) -> Chunk:
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().ljust(nbytes, b"\0")
    return b"iCCP", b"sRGB\0\0" + zlib.compress(content)


def build_exif_text(orientation: int) -> Chunk:
    """Return Exif as ImageMagick writes it into a PNG: its digits in a text."""
    content = b"Exif\0\0" + build_exif(orientation, order=">")
    return b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(
        b"\nexif\n%8d\n%s\n" % (len(content), content.hex().encode())
    )


def build_turned(orientation: int, *, is_late: bool = False) -> bytes:
    samples = np.asarray(store_turned(portrait(), orientation))
    exif = [(b"eXIf", build_exif(orientation))]
    before, behind = ([], exif) if is_late else (exif, [])
    return join(head(samples, 8, RGB), *before, pixels(samples, 8), *behind)


def build_turned_by(chunk: Chunk) -> bytes:
    """Return the portrait, stored with orientation 6, and a chunk that says so."""
    return write(np.asarray(store_turned(portrait(), 6)), 8, RGB, chunk)


def frame(number: int, image: Image.Image) -> bytes:
    """Return the control chunk of an animation's frame, as large as an image."""
    return struct.pack(">IIIIIHHBB", number, *image.size, 0, 0, 1, 10, 0, 0)


def animate(*, is_first_shown: bool, wrong: bytes = b"") -> bytes:
    """Return an animation of the portrait and another photo; or of the other one, with the portrait as still image."""
    other = preview().resize(portrait().size)
    still = [(b"fcTL", frame(0, portrait()))] if is_first_shown else []
    start = len(still)
    moved = struct.pack(">I", start + 1) + pixels(np.asarray(other), 8)[1]
    frames = [(b"fcTL", frame(start, other)), (b"fdAT", moved)]
    control = (b"acTL", struct.pack(">II", start + 1, 0))
    return photo(control, *still, behind=frames, wrong=wrong)


def divide_pixels(nbytes: int) -> bytes:
    """Return the portrait with its pixels in chunks of that many bytes, and an empty one."""
    samples = portrait_samples()
    kind, content = pixels(samples, 8)
    parts = [(kind, content[start : start + nbytes]) for start in range(0, len(content), nbytes)]
    return join(head(samples, 8, RGB), (kind, b""), *parts)


def build_damaged() -> bytes:
    """Return the portrait with the second half of its pixels lost."""
    samples = portrait_samples()
    kind, content = pixels(samples, 8)
    return join(head(samples, 8, RGB), (kind, content[: len(content) // 2]))


_GAMMA = (b"gAMA", struct.pack(">I", 100_000))  # linear light: a viewer that heeds it shows brighter colours
_WHITE = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
_GREY_KEY, _RGB_KEY = (b"tRNS", b"\0\x80"), (b"tRNS", bytes(6))
_INDEXED_KEY = (b"tRNS", bytes(range(0, 256, 2)))
_USED_BITS = (b"sBIT", b"\x0c")
_XMP = (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + build_xmp(6))

GREYS = (
    *(
        same(
            f"grey of {bits} bits",
            lambda bits=bits: write(reduced_cat(bits), bits, GREY),
            lambda bits=bits: reduced_twin(bits),
        )
        for bits in (1, 4)
    ),
    same("grey of 16 bits", lambda: write(deepen(cat_samples()), 16, GREY), grey_twin),
    same("grey of 16 bits between those of 8", lambda: write(add_noise(cat_samples()), 16, GREY), grey_twin, 0.99),
    same("grey of 16 bits with alpha", lambda: write(add_alpha(deepen(cat_samples())), 16, GREY_ALPHA), grey_twin),
    *variants(
        same("grey with alpha", lambda: write(add_alpha(cat_samples()), 8, GREY_ALPHA), grey_twin),
        *(
            same(
                f"grey of {bits} bits",
                lambda bits=bits: write(reduced_cat(bits), bits, GREY),
                lambda bits=bits: reduced_twin(bits),
            )
            for bits in (2, 8)
        ),
        same("grey of 16 bits, 12 of them used", lambda: write(deepen(cat_samples()), 16, GREY, _USED_BITS), grey_twin),
        same("grey of 16 bits, interlaced", lambda: write(deepen(cat_samples()), 16, GREY, interlaced=True), grey_twin),
        same(
            "grey of 16 bits with a transparent value",
            lambda: write(deepen(cat_samples()), 16, GREY, _GREY_KEY),
            grey_twin,
        ),
        same("grey with a transparent value", lambda: write(cat_samples(), 8, GREY, _GREY_KEY), grey_twin),
        same(
            "grey of 1 bit, interlaced",
            lambda: write(reduced_cat(1), 1, GREY, interlaced=True),
            lambda: reduced_twin(1),
        ),
    ),
)
COLOURS = (
    same("RGB of 16 bits", lambda: write(deepen(portrait_samples()), 16, RGB), portrait),
    same("RGBA, its colours hidden", lambda: write(add_alpha(portrait_samples()), 8, RGBA), portrait),
    *(
        same(f"{1 << bits} colours", lambda bits=bits: write_indexed(bits), lambda bits=bits: indexed_twin(1 << bits))
        for bits in (4, 8)
    ),
    same("256 colours with alpha", lambda: write_indexed(8, _INDEXED_KEY), indexed_twin),
    *variants(
        same("RGB, interlaced", lambda: write(portrait_samples(), 8, RGB, interlaced=True), portrait),
        same("RGBA of 16 bits", lambda: write(add_alpha(deepen(portrait_samples())), 16, RGBA), portrait),
        *(
            same(
                f"{1 << bits} colours", lambda bits=bits: write_indexed(bits), lambda bits=bits: indexed_twin(1 << bits)
            )
            for bits in (1, 2)
        ),
        same("RGB", photo, portrait),
        same("RGB with a transparent colour", lambda: photo(_RGB_KEY), portrait),
        same(
            "RGB of 16 bits between those of 8", lambda: write(add_noise(portrait_samples()), 16, RGB), portrait, 0.99
        ),
        same(
            "RGBA of 16 bits, interlaced",
            lambda: write(add_alpha(deepen(portrait_samples())), 16, RGBA, interlaced=True),
            portrait,
        ),
        same("16 colours, interlaced", lambda: write_indexed(4, interlaced=True), lambda: indexed_twin(16)),
    ),
)
CONTAINERS = (
    same("an animation", lambda: animate(is_first_shown=True), portrait),
    same("a still image beside an animation", lambda: animate(is_first_shown=False), portrait),
    same("deflated text of 2 MB", lambda: photo(deflate_text(2 * _MEGABYTE)), portrait),
    same("a profile of 2 MB", lambda: photo(profile(2 * _MEGABYTE)), portrait),
    same("a wrong checksum of a text", lambda: photo(text(10), wrong=b"tEXt"), portrait),
    same("a wrong checksum of the pixels", lambda: photo(wrong=b"IDAT"), portrait),
    same("Exif before the pixels", lambda: build_turned(6), portrait),
    same("Exif behind the pixels", lambda: build_turned(8, is_late=True), portrait),
    *variants(
        same("XMP", lambda: build_turned_by(_XMP), portrait),
        same(
            "Exif with the prefix of a JPEG", lambda: build_turned_by((b"eXIf", b"Exif\0\0" + build_exif(6))), portrait
        ),
        same("an animation, its second frame damaged", lambda: animate(is_first_shown=True, wrong=b"fdAT"), portrait),
        same("text of 2 MB", lambda: photo(text(2 * _MEGABYTE)), portrait),
        same("a gamma and a white point", lambda: photo(_GAMMA, _WHITE), portrait),
        same("data behind the end", lambda: photo() + b"PK\3\4" + bytes(5000), portrait),
        same("Exif as a text", lambda: build_turned_by(build_exif_text(6)), portrait),
        same(
            "an animation as Pillow writes it",
            lambda: encode(portrait(), "PNG", save_all=True, append_images=[preview()]),
            portrait,
        ),
        same("text of 2 MB behind the pixels", lambda: photo(behind=[text(2 * _MEGABYTE)]), portrait),
        same("a thousand texts", lambda: photo(*[text(10)] * 1000), portrait),
        same("a damaged profile", lambda: photo((b"iCCP", b"sRGB\0\0" + bytes(40))), portrait),
        same("a wrong checksum of a text behind", lambda: photo(behind=[text(10)], wrong=b"tEXt"), portrait),
        same("a wrong checksum of a profile", lambda: photo(profile(0), wrong=b"iCCP"), portrait),
        same("an unknown chunk", lambda: photo((b"vpAg", bytes(9))), portrait),
        same("an animation's chunk that is too short", lambda: photo((b"acTL", b"\0")), portrait),
        same("chunks of 100 bytes", lambda: divide_pixels(100), portrait),
    ),
    refuse("a wrong checksum of the header", "header", lambda: photo(wrong=b"IHDR")),
    refuse("a wrong checksum of the palette", "header", build_wrong_palette),
    refuse("half of the pixels", "stops before its end", build_damaged),
    refuse("no end", "stops before its end", lambda: photo()[:-12]),
    refuse("Apple's own form", "Apple", lambda: join((b"CgBI", b"\x50\0\x20\2"), *list(chain(_apple())))),
)
FILES: Sequence[RealFile] = (*GREYS, *COLOURS, *CONTAINERS)


def _apple() -> Sequence[Chunk]:
    """Return the chunks of a PNG of an iOS app: blue and red are swapped, and deflate has no header."""
    samples = portrait_samples()[..., ::-1]
    kind, content = pixels(samples, 8)
    return head(samples, 8, RGB), (kind, content[2:-4])
