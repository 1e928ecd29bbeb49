"""WebPs: lossy and lossless, with alpha, animated, and with metadata; their chunks are arranged byte by byte."""

import struct
from collections.abc import Callable, Sequence
from io import BytesIO

import imagecodecs
import numpy as np
from PIL import Image, ImageCms

from tests.real_files.files import EXACT, RealFile, refuse, same, variants
from tests.real_files.orientation import build_exif, build_xmp, store_turned, turn_upright
from tests.real_files.photos import portrait, preview, scattered_alpha, transparent_portrait
from tests.support.images import encode

Chunk = tuple[bytes, bytes]
_PROFILE, _ALPHA, _EXIF, _XMP = 0x20, 0x10, 0x08, 0x04  # flags of an extended file


def photo(**options: object) -> bytes:
    return encode(portrait(), "WEBP", **{"quality": 90} | options)


def decode(data: bytes) -> Image.Image:
    """Return a WebP as RGB, decoded by imagecodecs; alpha is dropped."""
    return Image.fromarray(imagecodecs.webp_decode(data)[..., :3])


def same_content(name: str, build: Callable[[], bytes], *, orientation: int = 1, min_share: float = EXACT) -> RealFile:
    """Return a file whose twin is its own content, decoded by imagecodecs and turned upright."""
    return same(name, build, lambda: turn_upright(decode(build()), orientation), min_share)


def encode_lossless(image: Image.Image) -> bytes:
    """Return an image without loss; colours are kept where alpha is 0."""
    return bytes(imagecodecs.webp_encode(np.asarray(image), lossless=True, level=-1))


def join(*chunks: Chunk) -> bytes:
    """Return the file of these chunks."""
    content = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(content)) + b"WEBP" + content


def split(data: bytes) -> list[Chunk]:
    """Return the chunks of a file."""
    chunks, position = [], 12
    while position < len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        chunks.append((kind, data[position + 8 : position + 8 + length]))
        position += 8 + length + length % 2
    return chunks


def extend(data: bytes, flags: int, *, before: Sequence[Chunk] = (), behind: Sequence[Chunk] = ()) -> bytes:
    """Return a plain file as an extended one, with chunks before its pixels and behind them."""
    width, height = Image.open(BytesIO(data)).size
    head = struct.pack("<I", flags) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return join((b"VP8X", head), *before, *split(data), *behind)


def build_turned(orientation: int, order: str) -> bytes:
    stored = encode(store_turned(portrait(), orientation), "WEBP", quality=90)
    return extend(stored, _EXIF, behind=[(b"EXIF", build_exif(orientation, order=order))])


def build_with_prefix() -> bytes:
    """Return a turned photo whose Exif begins as in a JPEG, as many programs copy it."""
    stored = encode(store_turned(portrait(), 8), "WEBP", quality=90)
    return extend(stored, _EXIF, behind=[(b"EXIF", b"Exif\0\0" + build_exif(8))])


def build_turned_by_xmp() -> bytes:
    stored = encode(store_turned(portrait(), 6), "WEBP", quality=90)
    return extend(stored, _XMP, behind=[(b"XMP ", build_xmp(6))])


def build_with_profile() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return extend(photo(), _PROFILE, before=[(b"ICCP", profile)])


def frame(left: int, top: int, image: Image.Image) -> Chunk:
    """Return a frame of an animation, at even places of its canvas."""
    places = [left // 2, top // 2, image.width - 1, image.height - 1, 100]
    head = b"".join(struct.pack("<I", number)[:3] for number in places) + b"\0"
    return b"ANMF", head + join(*split(encode_lossless(image)))[12:]


def smaller_frame() -> bytes:
    """Return an animation whose first frame leaves a margin of 20 pixels on its canvas."""
    head = struct.pack("<I", 2) + struct.pack("<I", 359)[:3] + struct.pack("<I", 279)[:3]
    loop = struct.pack("<IH", 0xFFFF8000, 0)
    return join((b"VP8X", head), (b"ANIM", loop), frame(20, 20, portrait()), frame(0, 0, preview()))


def smaller_twin() -> Image.Image:
    """Return the frame on black, as the reference reads it: the colour of the background is only a hint."""
    canvas = Image.new("RGB", (360, 280))
    canvas.paste(portrait(), (20, 20))
    return canvas


def animate(**options: object) -> bytes:
    second = preview().resize(portrait().size)
    return encode(portrait(), "WEBP", save_all=True, append_images=[second], duration=50, lossless=True, **options)


FILES: Sequence[RealFile] = (
    same_content("lossy", photo),
    same("lossless", lambda: encode_lossless(portrait()), portrait),
    same_content("lossy with alpha", lambda: encode(transparent_portrait(), "WEBP", quality=90, exact=True)),
    same("lossless with alpha", lambda: encode_lossless(transparent_portrait()), portrait),
    same("an animation", animate, portrait),
    same_content("orientation 6, little endian", lambda: build_turned(6, "<"), orientation=6),
    *variants(
        same_content("Exif with the prefix of a JPEG", build_with_prefix, orientation=8),
        same("a first frame smaller than the canvas", smaller_frame, smaller_twin),
        same_content("unknown chunks", lambda: extend(photo(), 0, behind=[(b"ABCD", bytes(999)), (b"efgh", b"x")])),
        same("lossless of 16 colours", lambda: encode_lossless(_few_colours()), lambda: _few_colours()),
        same_content(
            "alpha of few values", lambda: encode(_half_seen(), "WEBP", quality=90, alpha_quality=10, exact=True)
        ),
        same_content("orientation 7, big endian", lambda: build_turned(7, ">"), orientation=7),
        same_content("orientation in XMP alone", build_turned_by_xmp, orientation=6),
        same_content("a profile", build_with_profile),
        same_content("data behind the end", lambda: photo() + bytes(1000)),
    ),
    refuse("its first half", "stops before its end", lambda: photo()[: len(photo()) // 2]),
)


def _few_colours() -> Image.Image:
    return portrait().quantize(16, dither=Image.Dither.NONE).convert("RGB")


def _half_seen() -> Image.Image:
    image = portrait().convert("RGBA")
    image.putalpha(scattered_alpha().point(lambda value: value // 64 * 85))
    return image
