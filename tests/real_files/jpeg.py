"""JPEGs: kinds of coding, colour spaces, and what cameras and programs put beside the image."""

import struct
from collections.abc import Callable, Sequence

import imagecodecs
import numpy as np
from PIL import Image, ImageCms

from tests.real_files.arithmetic_jpeg import encode_blocks
from tests.real_files.files import CLOSE, EXACT, RealFile, refuse, same, variants
from tests.real_files.orientation import build_exif, build_xmp, store_turned, turn_upright
from tests.real_files.photos import cat_samples, grey_cat, grey_twin, portrait, portrait_samples, preview
from tests.support.images import encode

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXIF = b"Exif\0\0"
_APP0, _APP1, _APP2, _COMMENT = 0xE0, 0xE1, 0xE2, 0xFE
_MAX_SEGMENT = 65_533
_END = b"\xff\xd9"


def photo(**options: object) -> bytes:
    return encode(portrait(), "JPEG", **{"quality": 90} | options)


def encode_samples(**options: object) -> bytes:
    """Return the portrait as imagecodecs encodes it."""
    return bytes(imagecodecs.jpeg8_encode(portrait_samples(), 90, **options))


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def insert(data: bytes, *segments: bytes) -> bytes:
    """Return a JPEG with segments directly behind its first marker."""
    return data[:2] + b"".join(segments) + data[2:]


def remove_jfif(data: bytes) -> bytes:
    """Return a JPEG without its first segment, which is that of JFIF."""
    (length,) = struct.unpack_from(">H", data, 4)
    return data[:2] + data[4 + length :]


def decode(data: bytes) -> Image.Image:
    """Return a grey, RGB or YCbCr JPEG as RGB, decoded by imagecodecs."""
    return Image.fromarray(imagecodecs.jpeg8_decode(data)).convert("RGB")


def same_content(name: str, build: Callable[[], bytes], *, orientation: int = 1, min_share: float = EXACT) -> RealFile:
    """Return a file whose twin is its own content, decoded by imagecodecs and turned upright."""
    return same(name, build, lambda: turn_upright(decode(build()), orientation), min_share)


def turned_file(orientation: int, order: str) -> RealFile:
    """Return a photo as a phone stores it, in either byte order."""

    def build() -> bytes:
        stored = encode(store_turned(portrait(), orientation), "JPEG", quality=90)
        return insert(stored, segment(_APP1, _EXIF + build_exif(orientation, order=order)))

    ending = "little" if order == "<" else "big"
    return same_content(f"orientation {orientation}, {ending} endian", build, orientation=orientation)


def build_cmyk(colours: str) -> bytes:
    """Return a CMYK JPEG with Adobe's marker and, as Photoshop writes them, inverted values.

    Args:
        colours: CMYK, or YCCK, in which three channels are stored as YCbCr.
    """
    inverted = 255 - np.asarray(portrait().convert("CMYK"))
    return bytes(imagecodecs.jpeg8_encode(inverted, 95, colorspace="CMYK", outcolorspace=colours))


def decode_cmyk(data: bytes) -> Image.Image:
    """Return the RGB of inverted CMYK, without a colour profile: what is not absorbed by ink and black."""
    samples = imagecodecs.jpeg8_decode(data, outcolorspace="CMYK").astype(np.uint32)
    rgb = (samples[..., :3] * samples[..., 3:] + 127) // 255
    return Image.fromarray(rgb.astype(np.uint8))


def mosaic() -> Image.Image:
    """Return the cat with one value for each 8 x 8 pixels, 32 x 24."""
    return grey_cat().resize((32, 24), Image.Resampling.BOX)


def mosaic_twin() -> Image.Image:
    return mosaic().resize(grey_cat().size, Image.Resampling.NEAREST).convert("RGB")


def build_with_jfif_thumbnail() -> bytes:
    small = preview()
    head = b"JFIF\0" + struct.pack(">BBBHHBB", 1, 2, 1, 72, 72, *small.size)
    return insert(remove_jfif(photo()), segment(_APP0, head + small.tobytes()))


def build_with_exif_thumbnail() -> bytes:
    exif = build_exif(6, order=">", thumbnail=encode(preview(), "JPEG"))
    return insert(encode(store_turned(portrait(), 6), "JPEG", quality=90), segment(_APP1, _EXIF + exif))


def build_with_large_profile() -> bytes:
    """Return a JPEG whose colour profile takes three segments."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().ljust(150_000, b"\0")
    parts = [profile[start : start + 60_000] for start in range(0, len(profile), 60_000)]
    chunks = [
        segment(_APP2, b"ICC_PROFILE\0" + bytes((number, len(parts))) + part) for number, part in enumerate(parts, 1)
    ]
    return insert(photo(), *chunks)


def build_turned_by_xmp() -> bytes:
    return insert(encode(store_turned(portrait(), 8), "JPEG", quality=90), segment(_APP1, _XMP + build_xmp(8)))


def build_with_xmp_before_exif() -> bytes:
    stored = encode(store_turned(portrait(), 6), "JPEG", quality=90)
    xmp = build_xmp(6).replace(b"tiff:Orientation", b"tiff:ImageWidth")
    return insert(stored, segment(_APP1, _XMP + xmp), segment(_APP1, _EXIF + build_exif(6)))


def build_with_two_exif() -> bytes:
    """Return a JPEG of two segments of Exif: a program has put its own before the camera's."""
    stored = encode(store_turned(portrait(), 6), "JPEG", quality=90)
    return insert(stored, *(segment(_APP1, _EXIF + build_exif(number)) for number in (6, 3)))


def build_with_second_image() -> bytes:
    """Return a JPEG of two images (MPO), as stereo cameras write them, and phones for HDR."""
    return encode(
        portrait(), "MPO", quality=90, save_all=True, append_images=[grey_cat().convert("RGB").resize((80, 60))]
    )


def build_with_fill_bytes() -> bytes:
    """Return a JPEG with fill bytes before its markers (ITU-T T.81, section B.1.1.2)."""
    return insert(photo(), b"\xff\xff\xff" + segment(_COMMENT, b"a comment"), b"\xff\xff")


def build_deep() -> bytes:
    """Return 12 bits a sample, as some medical devices write them."""
    samples = portrait_samples().astype(np.uint16) << 4
    return bytes(imagecodecs.jpeg8_encode(samples, 90, bitspersample=12))


FILES: Sequence[RealFile] = (
    same_content("baseline", photo),
    same_content("progressive", lambda: photo(progressive=True)),
    same_content("grey", lambda: encode(grey_cat(), "JPEG", quality=90)),
    same_content("chroma of 4:1:1", lambda: encode_samples(subsampling="411")),
    same_content("RGB with Adobe's marker", lambda: encode_samples(colorspace="RGB", outcolorspace="RGB")),
    same("CMYK", lambda: build_cmyk("CMYK"), lambda: decode_cmyk(build_cmyk("CMYK")), CLOSE),
    same("YCCK", lambda: build_cmyk("YCCK"), lambda: decode_cmyk(build_cmyk("YCCK")), CLOSE),
    same("arithmetic coding", lambda: encode_blocks(np.asarray(mosaic())), mosaic_twin),
    *(turned_file(number, order) for number, order in ((3, "<"), (5, ">"), (6, ">"), (8, "<"))),
    same_content("orientation in XMP alone", build_turned_by_xmp, orientation=8),
    same_content("a thumbnail in Exif", build_with_exif_thumbnail, orientation=6),
    same_content("two images, as of a stereo camera", build_with_second_image),
    same_content(
        "a size for a fraction of it", lambda: encode(portrait().resize((1280, 1280)), "JPEG"), min_share=0.97
    ),
    same("lossless, RGB", lambda: encode_samples(lossless=True, predictor=1), portrait),
    *variants(
        same_content("XMP before Exif", build_with_xmp_before_exif, orientation=6),
        same_content("a colour profile of three segments", build_with_large_profile),
        same_content("two segments of Exif", build_with_two_exif, orientation=6),
        same_content("chroma of 4:4:4", lambda: photo(subsampling="4:4:4")),
        same_content("RGB without any marker", lambda: remove_jfif(photo(keep_rgb=True))),
        same_content("restart markers in each row", lambda: photo(restart_marker_rows=1)),
        same_content("damaged Exif", lambda: insert(photo(), segment(_APP1, _EXIF + build_exif(6)[:14]))),
        same_content("a video behind the image", lambda: photo() + b"\0\0\0\x18ftypmp42" + bytes(100_000)),
        same("lossless, grey", lambda: bytes(imagecodecs.ljpeg_encode(cat_samples())), grey_twin),
        same_content("optimised tables", lambda: photo(optimize=True)),
        same_content("grey progressive", lambda: encode(grey_cat(), "JPEG", quality=90, progressive=True)),
        same_content("chroma of 4:2:2", lambda: photo(subsampling="4:2:2")),
        same_content("chroma of 4:4:0", lambda: encode_samples(subsampling="440")),
        same_content("restart markers in each block", lambda: photo(restart_marker_blocks=1)),
        same_content("extended tables", lambda: photo(quality=1), min_share=CLOSE),
        *(turned_file(number, order) for number, order in ((1, "<"), (2, ">"), (4, "<"), (6, "<"), (7, ">"))),
        same_content("orientation 0", lambda: insert(photo(), segment(_APP1, _EXIF + build_exif(0)))),
        same_content("orientation 9", lambda: insert(photo(), segment(_APP1, _EXIF + build_exif(9)))),
        same_content("a thumbnail in JFIF", build_with_jfif_thumbnail),
        same_content("comments of 1 MB", lambda: insert(photo(), *[segment(_COMMENT, bytes(_MAX_SEGMENT))] * 16)),
        same_content("fill bytes", build_with_fill_bytes),
        same_content("no JFIF marker", lambda: remove_jfif(photo())),
    ),
    refuse("12 bits", "12", build_deep),
    refuse("JPEG-LS", "JPEG-LS", lambda: bytes(imagecodecs.jpegls_encode(portrait_samples()))),
    refuse("no end marker", "stops before its end", lambda: photo().removesuffix(_END)),
    refuse("its first half", "stops before its end", lambda: photo()[: len(photo()) // 2]),
)
