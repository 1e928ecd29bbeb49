"""TIFFs of programs and scanners: colour spaces, compressions, and layouts of the samples, mostly by tifffile."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.real_files.files import CLOSE, RealFile, refuse, same, variants
from tests.real_files.orientation import store_turned
from tests.real_files.photos import (
    Samples,
    add_alpha,
    add_noise,
    cat_samples,
    deepen,
    grey_twin,
    indexed_twin,
    palette_image,
    portrait,
    portrait_samples,
    reduced_cat,
    reduced_twin,
    scattered_alpha,
)
from tests.real_files.tiff_writer import (
    BLACK_IS_ZERO,
    COLOUR_MAP,
    FILL_ORDER,
    PALETTE,
    SHORT,
    YCBCR,
    YCBCR_SUBSAMPLING,
    Page,
    build_tiff,
    describe,
)
from tests.support.images import encode
from tests.support.tiffs import pack_bits


def write(samples: NDArray[np.generic], **options: object) -> bytes:
    """Return samples as tifffile writes them."""
    buffer = BytesIO()
    tifffile.imwrite(buffer, samples, **{"metadata": None, "software": False} | options)
    return buffer.getvalue()


def photo(**options: object) -> bytes:
    return write(portrait_samples(), **{"photometric": "rgb"} | options)


def deep_photo(**options: object) -> bytes:
    return write(deepen(portrait_samples()), **{"photometric": "rgb"} | options)


def planes(samples: NDArray[np.generic], **options: object) -> bytes:
    """Return a TIFF whose channels follow each other, each as a plane."""
    return write(np.moveaxis(samples, 2, 0), **{"photometric": "rgb", "planarconfig": "separate"} | options)


def build_colour_map() -> bytes:
    stored = np.array(palette_image().getpalette()).reshape(-1, 3)
    colours = np.zeros((256, 3), np.uint16)
    colours[: len(stored)] = stored * 257
    return write(np.asarray(palette_image()), photometric="palette", colormap=colours.T)


def lab() -> Image.Image:
    """Return the portrait in CIE L*a*b*."""
    return _convert(portrait(), "sRGB", "LAB", "LAB")


def lab_twin() -> Image.Image:
    return _convert(lab(), "LAB", "sRGB", "RGB")


def _convert(image: Image.Image, before: str, after: str, mode: str) -> Image.Image:
    """Return an image in another colour space."""
    profiles = [ImageCms.ImageCmsProfile(ImageCms.createProfile(name)) for name in (before, after)]
    converted = ImageCms.profileToProfile(image, *profiles, outputMode=mode)
    assert converted is not None
    return converted


def cmyk_samples() -> NDArray[np.uint8]:
    return np.asarray(portrait().convert("CMYK"))


def build_turned(orientation: int) -> bytes:
    samples = np.asarray(store_turned(portrait(), orientation))
    return write(samples, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])


def premultiply() -> bytes:
    """Return colours that are multiplied with an alpha of 128 and more, so that they can be divided again."""
    alpha = (128 + np.asarray(scattered_alpha()) // 2).astype(np.uint16)[..., None]
    colours = (portrait_samples() * alpha + 127) // 255
    samples = np.concatenate([colours, alpha], axis=2).astype(np.uint8)
    return write(samples, photometric="rgb", extrasamples=["assocalpha"])


def subsample() -> bytes:
    """Return YCbCr with one colour for 2 x 2 pixels, without compression (TIFF 6.0, section 21)."""
    blocks = colour_blocks().transpose(0, 2, 1, 3, 4).reshape(120 * 160, 4, 3)
    units = np.concatenate([blocks[..., 0], blocks[:, 0, 1:]], axis=1)
    tags = describe(portrait_samples(), 8, YCBCR) | {YCBCR_SUBSAMPLING: (SHORT, [2, 2])}
    return build_tiff(Page(tags, [units.tobytes()]))


def subsampled_twin() -> Image.Image:
    return Image.fromarray(colour_blocks().reshape(240, 320, 3), "YCbCr").convert("RGB")


def colour_blocks() -> Samples:
    """Return the portrait as YCbCr with the same colour in each 2 x 2 pixels, (120, 2, 160, 2, 3)."""
    blocks = np.array(portrait().convert("YCbCr")).reshape(120, 2, 160, 2, 3)
    blocks[..., 1:] = blocks[..., 1:].mean(axis=(1, 3), keepdims=True).round()
    return blocks


def reverse_bits() -> bytes:
    """Return one bit a pixel, the first in the lowest bit of its byte."""
    rows = np.packbits(reduced_cat(1), axis=1, bitorder="little")
    return build_tiff(Page(describe(reduced_cat(1), 1, BLACK_IS_ZERO) | {FILL_ORDER: (SHORT, [2])}, [rows.tobytes()]))


def few_colours(bits: int, factor: int = 257) -> bytes:
    """Return 2^bits colours, of 16 bits each, or with a factor of 1 of 8 as some programs write them."""
    image = palette_image(1 << bits)
    colours = np.array(image.getpalette()).reshape(-1, 3)[: 1 << bits] * factor
    tags = describe(np.asarray(image), bits, PALETTE) | {COLOUR_MAP: (SHORT, colours.T.ravel().tolist())}
    return build_tiff(Page(tags, [pack_bits(np.asarray(image), bits)]))


def fax(kind: str) -> bytes:
    return encode(Image.fromarray(reduced_cat(1) * 255).convert("1"), "TIFF", compression=kind)


def compress_as_jpeg(**options: object) -> bytes:
    return photo(compression="jpeg", compressionargs={"level": 95}, **options)


def jpeg_twin(data: bytes) -> Image.Image:
    """Return the content of a TIFF of JPEGs, decoded by tifffile and imagecodecs."""
    return Image.fromarray(tifffile.imread(BytesIO(data)))


_CAT = cat_samples
FILES: Sequence[RealFile] = (
    same("RGB of 16 bits", deep_photo, portrait),
    refuse(
        "RGB of fractions",
        "floating point",
        lambda: write((portrait_samples() / 255).astype("f4"), photometric="rgb"),
    ),
    same("RGB in planes", lambda: planes(portrait_samples()), portrait),
    same("RGB of 16 bits in planes", lambda: planes(deepen(portrait_samples())), portrait),
    same("RGBA, multiplied", premultiply, portrait, CLOSE),
    same(
        "grey of 16 bits with alpha",
        lambda: write(
            add_alpha(deepen(_CAT())), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
        ),
        grey_twin,
    ),
    same("CMYK", lambda: write(cmyk_samples(), photometric="separated"), portrait),
    same("L*a*b*", lambda: encode(lab(), "TIFF"), lab_twin, CLOSE),
    same(
        "LZW with differences", lambda: encode(portrait(), "TIFF", compression="tiff_lzw", tiffinfo={317: 2}), portrait
    ),
    same(
        "grey of 16 bits with differences, big endian",
        lambda: write(deepen(_CAT()), compression="lzw", predictor=True, byteorder=">"),
        grey_twin,
    ),
    same(
        "fractions with differences",
        lambda: write((_CAT() / 255).astype("f4"), compression="zlib", predictor=True),
        grey_twin,
    ),
    same("JPEG of YCbCr", compress_as_jpeg, lambda: jpeg_twin(compress_as_jpeg()), CLOSE),
    same("fax of group 4", lambda: fax("group4"), lambda: reduced_twin(1)),
    refuse("PackBits with differences", "predictor", lambda: photo(compression="packbits", predictor=True)),
    refuse("BigTIFF, big endian", "high byte first", lambda: photo(bigtiff=True, byteorder=">")),
    same(
        "grey of 16 bits, orientation 6",
        lambda: write(np.rot90(deepen(_CAT())), extratags=[(274, 3, 1, 6, True)]),
        grey_twin,
    ),
    same("orientation 8", lambda: build_turned(8), portrait),
    *variants(
        *(same(f"orientation {n}", lambda n=n: build_turned(n), portrait) for n in (2, 3, 4, 5, 6, 7)),
        same("YCbCr, one colour for four pixels", subsample, subsampled_twin, CLOSE),
        same("1 bit, the lowest first", reverse_bits, lambda: reduced_twin(1)),
        *(
            same(f"{1 << bits} colours", lambda bits=bits: few_colours(bits), lambda bits=bits: indexed_twin(1 << bits))
            for bits in (1, 2, 4)
        ),
        same("16 colours of 8 bits", lambda: few_colours(4, 1), lambda: indexed_twin(16)),
        same("256 colours", build_colour_map, indexed_twin),
        same("RGB of 16 bits with differences", lambda: deep_photo(compression="zlib", predictor=True), portrait),
        same("Zstandard", lambda: photo(compression="zstd"), portrait),
        same("RGB", photo, portrait),
        same("RGB, big endian", lambda: photo(byteorder=">"), portrait),
        same("RGB of 16 bits, big endian", lambda: deep_photo(byteorder=">"), portrait),
        same(
            "RGB of 16 bits between those of 8",
            lambda: write(add_noise(portrait_samples()), photometric="rgb"),
            portrait,
            0.99,
        ),
        same(
            "RGB of 16 bits in planes, big endian", lambda: planes(deepen(portrait_samples()), byteorder=">"), portrait
        ),
        same(
            "RGB in deflated planes", lambda: planes(portrait_samples(), compression="zlib", rowsperstrip=16), portrait
        ),
        same(
            "RGB of 16 bits in deflated planes",
            lambda: planes(deepen(portrait_samples()), compression="zlib", rowsperstrip=16),
            portrait,
        ),
        same("RGB in tiled planes", lambda: planes(portrait_samples(), tile=(64, 64)), portrait),
        same(
            "RGBA",
            lambda: write(add_alpha(portrait_samples()), photometric="rgb", extrasamples=["unassalpha"]),
            portrait,
        ),
        same(
            "RGBA of 16 bits",
            lambda: write(add_alpha(deepen(portrait_samples())), photometric="rgb", extrasamples=["unassalpha"]),
            portrait,
        ),
        same(
            "RGB and a channel of no meaning",
            lambda: write(add_alpha(portrait_samples()), photometric="rgb", extrasamples=["unspecified"]),
            portrait,
        ),
        same(
            "grey with alpha",
            lambda: write(
                add_alpha(_CAT()), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
            ),
            grey_twin,
        ),
        same("CMYK of 16 bits", lambda: write(deepen(cmyk_samples()), photometric="separated"), portrait),
        same(
            "YCbCr",
            lambda: encode(portrait().convert("YCbCr"), "TIFF"),
            lambda: portrait().convert("YCbCr").convert("RGB"),
            CLOSE,
        ),
        same("LZW", lambda: photo(compression="lzw"), portrait),
        same("deflated", lambda: photo(compression="zlib"), portrait),
        same("deflated, the old number", lambda: photo(compression=32946), portrait),
        same("deflated with differences", lambda: photo(compression="zlib", predictor=True), portrait),
        same("PackBits", lambda: photo(compression="packbits"), portrait),
        same("LZMA", lambda: photo(compression="lzma"), portrait),
        same(
            "JPEG tiles",
            lambda: compress_as_jpeg(tile=(64, 64)),
            lambda: jpeg_twin(compress_as_jpeg(tile=(64, 64))),
            CLOSE,
        ),
        same("fax of group 3", lambda: fax("group3"), lambda: reduced_twin(1)),
        same("strips of 7 rows", lambda: photo(rowsperstrip=7), portrait),
        same("tiles", lambda: photo(tile=(64, 48)), portrait),
        same("tiles of 16 bits, deflated", lambda: deep_photo(tile=(64, 48), compression="zlib"), portrait),
        same(
            "grey tiles of 16 bits, deflated",
            lambda: write(deepen(_CAT()), tile=(64, 48), compression="zlib"),
            grey_twin,
        ),
        same("BigTIFF", lambda: photo(bigtiff=True), portrait),
    ),
    refuse("WebP", "compression", lambda: photo(compression="webp")),
    refuse("JPEG 2000", "compression", lambda: photo(compression="jpeg2000")),
    refuse("JPEG XL", "compression", lambda: photo(compression="jpegxl")),
)
