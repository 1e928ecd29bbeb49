"""Grey images of any depth decode to the pixels of their 8-bit version, and layouts of a TIFF are not mixed up."""

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.Image import Transpose

from shared.errors import NotAnImage
from shared.images.samples import Samples
from shared.jobs.inspection import inspect_image
from tests.support.hostile_images import build_png
from tests.support.images import EXIF_ORIENTATION, astronaut, encode, grey
from tests.support.tiffs import build_tiff, encode_big_tiff, encode_tiff, pack_bits
from worker.decoding.pixels import decode
from worker.decoding.samples import scale_to_8_bits

MAX_PIXELS = 1_000_000
GREY = np.asarray(grey())[100:261, 60:257]  # (161, 197), with 0 and 255
GREY = np.where(np.arange(GREY.size).reshape(GREY.shape) < 2, [[0, 255] * 98 + [0]], GREY).astype(np.uint8)
RGB = np.asarray(astronaut())[100:261, 60:257]
FLOAT_MAX = float(np.finfo(np.float32).max)
ALPHA = np.tile(np.arange(55, 252, dtype=np.uint8), (161, 1))

# Tags that pixels do not need, of types and lengths that libtiff does not read: number, type, values.
UNREADABLE: list[tuple[int, Any, int, Any]] = [
    *((tag, 2, 5, "4095") for tag in (280, 281, 340, 341)),
    *((tag, 7, 3, b"abc") for tag in (280, 281, 340, 341)),
    *((tag, "I", 1, 2**32 - 1) for tag in (280, 281)),
    *((tag, "h", 1, -1) for tag in (280, 281)),
    *((tag, "d", 1, 9.5) for tag in (280, 281)),
    *((tag, "d", 3, (0.0, 1.0, 2.0)) for tag in (340, 341)),
    (700, 2, 6, "<xmp>"),
]
# The 8 bits of GREY in other types.
DEPTHS: dict[str, np.ndarray] = {
    "16 bits": GREY.astype(np.uint16) * 257,
    "16 bits, shifted": GREY.astype(np.uint16) << 8,
    "32 bits": GREY.astype(np.uint32) * 0x01010101,
    "8 bits in 32": GREY.astype(np.uint32),
    "16 bits in 32": GREY.astype(np.uint32) * 257,
    "8 signed bits": (GREY.astype(np.int16) - 128).astype(np.int8),
    "16 signed bits": (GREY.astype(np.int32) * 257 - 32_768).astype(np.int16),
    "15 bits in 16 signed bits": GREY.astype(np.int16) << 7,
    "8 bits in 16 signed bits": GREY.astype(np.int16),
    "32 signed bits": (GREY.astype(np.int64) * 0x01010101 - 2**31).astype(np.int32),
    "16 bits in 32 signed bits": GREY.astype(np.int32) * 257,
    "half floats": (GREY / 255).astype(np.float16),
    "floats": (GREY / 255).astype(np.float32),
    "doubles": GREY / 255,
    "floats of another range": (GREY * 7.5 - 300).astype(np.float32),
    "doubles of another range": GREY * 0.5 + 500,
}


def assert_decodes(data: bytes, expected: np.ndarray) -> None:
    """Check the pixels, (H, W) or (H, W, 3), and that the gateway reads the same size."""
    pixels = np.asarray(decode(data, max_pixels=MAX_PIXELS))
    facts = inspect_image(data, max_pixels=MAX_PIXELS)

    assert (facts.height, facts.width) == pixels.shape[:2]
    assert np.array_equal(pixels, expected if expected.ndim == 3 else np.stack([expected] * 3, axis=2))


@pytest.mark.parametrize("options", [{}, {"compression": "deflate"}, {"tile": (64, 80), "compression": "deflate"}])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_grey_tiff_of_any_depth_is_its_8_bit_version(depth: str, order: str, options: dict[str, Any]) -> None:
    photometric = {"photometric": "minisblack"}

    assert_decodes(encode_tiff(DEPTHS[depth], order=order, rowsperstrip=50, **photometric, **options), GREY)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_tiff_in_which_white_is_zero_is_inverted(depth: str, order: str) -> None:
    assert_decodes(encode_tiff(DEPTHS[depth], order=order, photometric="miniswhite"), 255 - GREY)


def test_grey_without_a_photometric_interpretation_is_the_same_at_any_depth() -> None:
    def encode_without(samples: np.ndarray) -> bytes:
        bits = 8 * samples.itemsize
        data = build_tiff(samples.tobytes(), size=samples.shape[::-1], bits=[bits], photometric=1)
        directory = struct.unpack_from("<I", data, 4)[0]
        return data[:directory] + data[directory:].replace(
            struct.pack("<HHI", 262, 3, 1), struct.pack("<HHI", 259, 3, 1)
        )

    assert_decodes(encode_without(GREY), 255 - GREY)  # as Pillow reads it
    assert_decodes(encode_without(GREY.astype(np.uint16) * 257), 255 - GREY)


@pytest.mark.parametrize("depth", ["16 bits", "16 bits, shifted"])
@pytest.mark.parametrize("interlace", [0, 1])
def test_a_png_of_16_bits_is_its_8_bit_version(depth: str, interlace: int) -> None:
    assert_decodes(encode(Image.fromarray(DEPTHS[depth]), "PNG", interlace=interlace), GREY)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("kind", "channels"), [(0, [GREY]), (2, [RGB]), (4, [GREY, ALPHA]), (6, [RGB, ALPHA])])
def test_a_png_of_any_channels_is_its_8_bit_version(kind: int, channels: list[np.ndarray], bits: int) -> None:
    pixels = np.concatenate([channel.reshape(161, 197, -1) for channel in channels], axis=2)
    rows = np.repeat(pixels, bits // 8, axis=2).reshape(161, -1)  # a sample times 257 is its byte twice
    data = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())

    assert_decodes(build_png(struct.pack(">IIBBBBB", 197, 161, bits, kind, 0, 0, 0), (b"IDAT", data)), channels[0])


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("alpha", [0, 1, 128])
def test_the_colours_under_transparent_pixels_count(kind: str, alpha: int) -> None:
    image = Image.fromarray(RGB).quantize(64) if kind == "GIF" else Image.fromarray(RGB)
    if kind == "GIF":
        assert_decodes(encode(image, kind, transparency=5), np.asarray(image.convert("RGB")))
        return
    image.putalpha(alpha)

    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}

    assert_decodes(encode(image, kind, **options), RGB)


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_image_of_16_bits_is_turned_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    turn = {3: Transpose.ROTATE_180, 6: Transpose.ROTATE_270}[orientation]

    data = encode(Image.fromarray(DEPTHS["16 bits"]), kind, exif=exif)

    assert_decodes(data, np.asarray(Image.fromarray(GREY).transpose(turn)))


def test_a_big_tiff_of_16_bits_is_read() -> None:
    assert_decodes(encode_big_tiff(DEPTHS["16 bits"]), GREY)


@pytest.mark.parametrize(("predictor", "depth"), [(2, "16 bits"), (2, "32 signed bits"), (3, "floats")])
def test_a_predictor_is_undone_before_samples_are_scaled(predictor: int, depth: str) -> None:
    image = Image.fromarray(DEPTHS[depth])

    assert_decodes(encode(image, "TIFF", compression="tiff_lzw", tiffinfo={317: predictor}), GREY)


@pytest.mark.parametrize("order", "<>")
def test_12_bits_of_a_packed_row_are_scaled(order: str) -> None:
    samples = GREY.astype(np.uint16) << 4 | 7
    data = build_tiff(pack_bits(samples, 12), size=(197, 161), bits=[12], photometric=1, order=order)

    assert_decodes(data, GREY)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_alpha_of_grey_is_dropped(bits: int, planar: bool) -> None:
    pixels = np.stack([GREY, ALPHA], axis=0 if planar else 2)
    pixels = pixels if bits == 8 else pixels.astype(np.uint16) * 257

    options = {"photometric": "minisblack", "planarconfig": "separate" if planar else "contig"}

    assert_decodes(encode_tiff(pixels, extrasamples=["unassalpha"], **options), GREY)


def test_grey_that_is_premultiplied_by_alpha_is_divided() -> None:
    pixels = np.stack([np.full_like(GREY, 40), np.full_like(GREY, 128)], axis=2)

    data = encode_tiff(pixels, photometric="minisblack", extrasamples=["assocalpha"])

    assert_decodes(data, np.full_like(GREY, 40 * 255 // 128))


DECLARED = [
    (GREY.astype(np.uint16), {"tag_281": ("H", [255])}, GREY),
    (GREY.astype(np.uint16) << 4, {"tag_281": ("H", [4095])}, GREY),
    (GREY.astype(np.uint16) + 1000, {"tag_280": ("H", [1000]), "tag_281": ("H", [1255])}, GREY),
    (GREY.astype(np.float32) * 4 - 100, {"tag_340": ("f", [-100]), "tag_341": ("f", [920])}, GREY),
    (GREY.astype(np.float32) / 510, {"tag_340": ("d", [0.0]), "tag_341": ("d", [0.5])}, GREY),
    # These cannot be: a sample is outside of them, or they are no range.
    (GREY.astype(np.uint16) * 257, {"tag_281": ("H", [255])}, GREY),
    (GREY.astype(np.uint16) * 257, {"tag_280": ("H", [9]), "tag_281": ("H", [9])}, GREY),
    (GREY.astype(np.uint16) * 257, {"tag_341": ("d", [float("nan")])}, GREY),
    (GREY.astype(np.float32) / 255, {"tag_341": ("f", [float("inf")])}, GREY),
]


@pytest.mark.parametrize(("samples", "tags", "expected"), DECLARED)
def test_declared_limits_are_heeded_if_they_can_be_true(
    samples: np.ndarray, tags: dict[str, Any], expected: np.ndarray
) -> None:
    kind = 3 if samples.dtype.kind == "f" else 1
    tags = {**tags, "tag_339": ("H", [kind])}
    bits = [8 * samples.itemsize]

    assert_decodes(build_tiff(samples.tobytes(), size=(197, 161), bits=bits, photometric=1, **tags), expected)


@pytest.mark.parametrize("tag", UNREADABLE)
@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}])
def test_a_damaged_tag_that_pixels_do_not_need_is_no_fault(tag: tuple[int, Any, int, Any], options: Any) -> None:
    options = {**options, "extratags": [(*tag, True)], "photometric": "minisblack"}

    assert_decodes(encode_tiff(GREY, **options), GREY)
    assert_decodes(encode_tiff(DEPTHS["16 bits"], order=">", **options), GREY)
    assert_decodes(encode_big_tiff(DEPTHS["16 bits"], **options), GREY)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0.0, np.nan, np.inf, -np.inf, 1.0], [0, 0, 255, 0, 255]),
        ([-5.0, np.nan, np.inf, -np.inf, 5.0], [0, 0, 255, 0, 255]),
        ([np.nan] * 5, [0] * 5),
        ([np.inf] * 5, [255] * 5),
        ([0.5] * 5, [128] * 5),
        ([77.0] * 5, [0] * 5),
        ([-3e38, 0.0, 3e38, 3e38, 3e38], [0, 128, 255, 255, 255]),
        ([-FLOAT_MAX, 300.0, 555.0, FLOAT_MAX, 428.0], [0, 0, 255, 0, 128]),
        ([-FLOAT_MAX] * 5, [0] * 5),
    ],
)
def test_numbers_that_are_none_are_bounded(samples: list[float], expected: list[int]) -> None:
    data = encode_tiff(np.array([samples], np.float32), photometric="minisblack")

    assert_decodes(data, np.array([expected], np.uint8))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("no_data", "text", "kind"),
    [
        (-9999, "-9999", np.float32),
        (-9999, "-9999.0", np.float64),
        (-9999, " -9999 ", np.float16),
        (-3.5, "-3.5", np.float32),
        (-1e300, "-1e300", np.float64),
        (-0.1, "-0.1", np.float32),
        (-32768, "-32768", np.int16),
        (-(2**31), "-2147483648", np.int32),
        (2**32 - 1, "4294967295", np.uint32),
        (65_535, "65535", np.uint32),
    ],
)
def test_samples_without_data_are_black_and_no_limit(no_data: float, text: str, kind: Any, order: str) -> None:
    samples = GREY.astype(kind)
    samples[50:70] = no_data
    expected = GREY.copy()
    expected[50:70] = 0
    tag = (42113, 2, len(text) + 1, text, True)

    assert_decodes(encode_tiff(samples, order=order, photometric="minisblack", extratags=[tag]), expected)


@pytest.mark.parametrize("text", ["nan", "", "none", "1e999", "-inf", "9" * 60_000, "7e9\0", "\u00e9", "1_0"])
def test_a_declaration_of_no_data_may_be_anything(text: str) -> None:
    encoded = text.encode("latin-1")
    tag = (42113, 2, len(encoded) + 1, encoded, True)

    for depth in ("floats", "16 bits", "32 signed bits"):
        assert_decodes(encode_tiff(DEPTHS[depth], photometric="minisblack", extratags=[tag]), GREY)


@given(
    kind=st.sampled_from("uif"),
    values=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40),
    other=st.none() | st.floats(allow_nan=False),
)
def test_any_sample_may_be_without_data(kind: str, values: list[int], other: float | None) -> None:
    array = np.array([values], np.uint32).view({"u": "u4", "i": "i4", "f": "f4"}[kind])
    no_data = float(array[0, 0]) if other is None else other
    pixels = Image.fromarray(array.view(np.float32 if kind == "f" else np.int32))

    scaled = np.asarray(scale_to_8_bits(pixels, Samples(kind, 32, no_data=no_data)))

    with np.errstate(all="ignore"):
        assert not scaled[array.astype(np.float64) == no_data].any()


@given(kind=st.sampled_from("ui"), highest=st.integers(1 << 16, (1 << 32) - 1), is_negative=st.booleans())
def test_wide_integers_are_scaled_by_the_bits_that_they_need(kind: str, highest: int, is_negative: bool) -> None:
    highest >>= kind == "i"
    lowest = -highest - 1 if kind == "i" and is_negative else 0
    array = np.array([[lowest, highest // 2, highest]], np.int64).astype(f"{kind}4")
    # As signed numbers they need a bit more, and black is at the lowest number of the bits.
    bits = max(16, highest.bit_length()) + (lowest < 0)
    black = 128 if lowest < 0 else 0

    scaled = np.asarray(scale_to_8_bits(Image.fromarray(array.view(np.int32)), Samples(kind, 32)))[0]

    assert [int(one) - black for one in scaled] == [one >> bits - 8 for one in (lowest, highest // 2, highest)]
    assert scaled[2] >= 128


@given(
    kind=st.sampled_from("uif"),
    values=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40),
    limits=st.tuples(*[st.none() | st.floats(width=32) | st.integers(-(2**40), 2**40)] * 2),
)
def test_scaling_never_fails_and_keeps_the_order(
    kind: str, values: list[int], limits: tuple[float | None, float | None]
) -> None:
    array = np.array([values], np.uint32).view({"u": "u4", "i": "i4", "f": "f4"}[kind])
    pixels = Image.fromarray(array.view(np.float32 if kind == "f" else np.int32))

    scaled = np.asarray(scale_to_8_bits(pixels, Samples(kind, 32, *limits)))[0]

    if kind == "f":
        array[np.abs(array) == FLOAT_MAX] = np.nan
    numbers = len(values) - (int(np.isnan(array).sum()) if kind == "f" else 0)  # NaN come last
    order = np.argsort(array[0], kind="stable")[:numbers]
    assert (np.diff(scaled[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("options", [{}, {"tile": (64, 80)}, {"compression": "deflate"}])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [None, "unspecified", "unassalpha"])
@pytest.mark.parametrize("planar", [False, True])
def test_colours_of_any_layout_are_those_of_the_image(
    planar: bool, extra: str | None, bits: int, options: dict[str, Any], order: str
) -> None:
    pixels = np.concatenate([RGB, ALPHA[..., None]], axis=2) if extra else RGB
    pixels = np.moveaxis(pixels, 2, 0) if planar else pixels
    pixels = pixels if bits == 8 else pixels.astype(np.uint16) * 257
    layout = {"photometric": "rgb", "planarconfig": "separate" if planar else "contig", "rowsperstrip": 50}

    data = encode_tiff(pixels, order=order, extrasamples=[extra] if extra else None, **layout, **options)

    assert_decodes(data, RGB)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_colours_that_are_premultiplied_by_alpha_are_divided(bits: int, planar: bool) -> None:
    alpha = np.full_like(ALPHA, 128)
    pixels = np.concatenate([(RGB // 2), alpha[..., None]], axis=2)
    pixels = np.moveaxis(pixels, 2, 0) if planar else pixels
    pixels = pixels if bits == 8 else pixels.astype(np.uint16) * 257

    data = encode_tiff(
        pixels, photometric="rgb", extrasamples=["assocalpha"], planarconfig="separate" if planar else "contig"
    )

    assert_decodes(data, ((RGB // 2).astype(int) * 255 // 128).astype(np.uint8))


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk_of_any_layout_is_converted_like_cmyk_of_8_bits(bits: int, planar: bool) -> None:
    cmyk = np.asarray(Image.fromarray(RGB).convert("CMYK"))
    pixels = np.moveaxis(cmyk, 2, 0) if planar else cmyk
    pixels = pixels if bits == 8 else pixels.astype(np.uint16) * 257

    data = encode_tiff(pixels, photometric="separated", planarconfig="separate" if planar else "contig")

    assert_decodes(data, RGB)


@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [0, 1, 3])
def test_few_bits_are_scaled_or_looked_up(photometric: int, bits: int, fill_order: int) -> None:
    levels = GREY >> (8 - bits)
    scaled = (levels.astype(int) * 255 // (2**bits - 1)).astype(np.uint8)
    tags: dict[str, Any] = {"tag_266": ("H", [fill_order])}
    if photometric == 3:
        tags["tag_320"] = ("H", [level * 65_535 // (2**bits - 1) for level in range(2**bits)] * 3)
    packed = np.frombuffer(pack_bits(levels, bits), np.uint8)
    if fill_order == 2:
        packed = np.packbits(np.unpackbits(packed), bitorder="little")

    data = build_tiff(packed.tobytes(), size=(197, 161), bits=[bits], photometric=photometric, **tags)

    assert_decodes(data, 255 - scaled if photometric == 0 else scaled)


def test_a_palette_of_8_bit_colours_is_not_black() -> None:
    tags: dict[str, Any] = {"tag_320": ("H", [*range(256)] * 3)}

    assert_decodes(build_tiff(GREY.tobytes(), size=(197, 161), bits=[8], photometric=3, **tags), GREY)


def test_colours_of_ycbcr_that_are_stored_for_four_pixels_are_decoded() -> None:
    ycbcr = np.asarray(Image.new("RGB", (32, 16), (200, 60, 30)).convert("YCbCr"))
    blocks = np.concatenate([np.full((8, 16, 4), ycbcr[0, 0, 0]), np.full((8, 16, 2), ycbcr[0, 0, 1:])], axis=2)
    tags: dict[str, Any] = {"tag_530": ("H", [2, 2])}

    data = build_tiff(blocks.astype(np.uint8).tobytes(), size=(32, 16), bits=[8, 8, 8], photometric=6, **tags)

    pixels = np.asarray(decode(data, max_pixels=MAX_PIXELS)).astype(int)
    assert np.abs(pixels - [200, 60, 30]).max() <= 3


def test_a_jpeg_of_ycck_is_converted_like_one_of_cmyk() -> None:
    plain = Image.fromarray(RGB)
    *inks, black = plain.convert("CMYK").split()
    luma = Image.merge("RGB", inks).convert("YCbCr")
    stored = Image.merge("CMYK", [*(band.point(lambda value: 255 - value) for band in luma.split()), black])
    data = encode(stored, "JPEG", quality=98)
    transform = data.index(b"Adobe") + 11
    data = data[:transform] + b"\x02" + data[transform + 1 :]

    pixels = np.asarray(decode(data, max_pixels=MAX_PIXELS)).astype(int)

    assert np.abs(pixels - RGB).mean() < 3


def test_a_jpeg_of_12_bits_is_refused_by_that() -> None:
    data = bytearray(encode(Image.fromarray(GREY), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12

    for read in (inspect_image, decode):
        with pytest.raises(NotAnImage, match="12 bits a sample is not supported: send it with 8 bits"):
            read(bytes(data), max_pixels=MAX_PIXELS)


def test_a_jpeg_ls_is_refused_by_name() -> None:
    data = encode(Image.fromarray(GREY), "JPEG").replace(b"\xff\xc0", b"\xff\xf7")

    for read in (inspect_image, decode):
        with pytest.raises(NotAnImage, match=r"JPEG-LS is not supported: send it as an ordinary JPEG or as PNG"):
            read(data, max_pixels=MAX_PIXELS)


FLOATS = (RGB / 255).astype(np.float32)
REFUSED = [
    (encode_tiff(FLOATS, photometric="rgb"), "3 floating point samples of 32 bits a pixel .RGB.*save it as"),
    (encode_tiff(np.moveaxis(FLOATS, 2, 0), photometric="rgb", planarconfig="separate"), "in separate planes"),
    (encode_tiff(np.moveaxis(RGB, 2, 0), photometric="cielab", planarconfig="separate"), "Lab, in separate planes"),
    (encode_tiff(RGB.astype(np.uint16), photometric="cielab"), "3 samples of 16 bits a pixel .Lab"),
    (encode_tiff(GREY.astype(np.uint64), photometric="minisblack"), "of 64 bits a pixel .grey"),
    (encode_tiff(GREY.astype(np.complex64), photometric="minisblack"), "complex or mixed samples of 64 bits"),
    (build_tiff(pack_bits(GREY, 14), size=(197, 161), bits=[14], photometric=1), "1 samples of 14 bits a pixel"),
    (build_tiff(bytes(9), size=(3, 3), bits=[8], photometric=1, tag_259=("H", [34712])), "supported .JPEG 2000"),
    (build_tiff(bytes(9), size=(3, 3), bits=[8], photometric=1, tag_259=("H", [50002])), "supported .JPEG XL"),
    (encode_big_tiff(GREY, order=">"), "BigTIFF with the high byte first"),
    (
        build_tiff(bytes(9), size=(3, 3), bits=[8], photometric=1, tag_259=("H", [32773]), tag_317=("H", [2])),
        "predictor",
    ),
    (build_tiff(bytes(9), size=(3, 3), bits=[8], photometric=1, tag_259=("H", [12345])), "of the kind 12345"),
    (
        build_tiff(bytes(54), size=(3, 3), bits=[16] * 3, photometric=2, tag_266=("H", [2])),
        "3 samples of 16 bits a pixel .RGB, with the lowest bit of a byte first",
    ),
]


@pytest.mark.parametrize(("data", "sentence"), REFUSED)
def test_a_layout_that_is_not_decoded_is_named_by_the_gateway(data: bytes, sentence: str) -> None:
    with pytest.raises(NotAnImage, match=sentence):
        inspect_image(data, max_pixels=MAX_PIXELS)
    with pytest.raises(NotAnImage, match=sentence):
        decode(data, max_pixels=MAX_PIXELS)
