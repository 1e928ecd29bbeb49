"""What a file holds beside its pixels changes neither its acceptance nor its pixels, in gateway and worker alike."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shared.errors import ImageTooCostly, NotAnImage
from shared.images import spliced_file
from shared.images.spliced_file import splice
from shared.jobs.inspection import inspect_image
from tests.support.images import EXIF_ORIENTATION, ROTATED_LEFT, coffee, png_chunk
from worker.decoding.pixels import decode

MAX_PIXELS = 1_000_000
SIZE = (150, 100)
TWO_MEGABYTES = bytes(2_000_000)
NOISE = np.random.default_rng(1).bytes(1_500_000)


def encode(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = BytesIO()
    coffee().resize(SIZE).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def add_chunks(data: bytes, *chunks: bytes, before: bytes = b"IDAT") -> bytes:
    place = data.index(before) - 4
    return data[:place] + b"".join(chunks) + data[place:]


def check_pixels(data: bytes, expected: bytes) -> None:
    """Compare the size that the gateway answers and the pixels that the worker decodes with those of a plain file."""
    plain = decode(expected, max_pixels=MAX_PIXELS)
    facts = inspect_image(data, max_pixels=MAX_PIXELS)
    decoded = decode(data, max_pixels=MAX_PIXELS)

    assert (facts.width, facts.height) == decoded.size == plain.size
    assert np.array_equal(np.asarray(decoded), np.asarray(plain))


PLAIN = encode("PNG")
COMPRESSED = b"key\0\0" + zlib.compress(TWO_MEGABYTES)
EXIF = Image.Exif()
EXIF[EXIF_ORIENTATION] = ROTATED_LEFT
TIFF_OF_EXIF = EXIF.tobytes().removeprefix(b"Exif\0\0")
EXIF_TEXT = f"\nexif\n{len(TIFF_OF_EXIF):8}\n{TIFF_OF_EXIF.hex()}\n".encode()
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
SHORT = (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tRNS", b"iCCP", b"acTL", b"fcTL", b"bKGD", b"tIME", b"zTXt", b"iTXt")
PNG_CHUNKS: dict[str, list[bytes]] = {
    "a text of 2 MB": [png_chunk(b"tEXt", b"key\0" + b"a" * 2_000_000)],
    "a compressed text of 2 MB": [png_chunk(b"zTXt", COMPRESSED)],
    "an international text of 2 MB": [png_chunk(b"iTXt", b"key\0\1\0\0\0" + zlib.compress(TWO_MEGABYTES))],
    "an international text of 2 MB that is not compressed": [png_chunk(b"iTXt", b"key\0\0\0\0\0" + b"a" * 2_000_000)],
    "texts of 80 MB": [png_chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1_000_000)))] * 80,
    "a profile of 2 MB": [png_chunk(b"iCCP", COMPRESSED)],
    "a profile that is no zlib stream": [png_chunk(b"iCCP", b"key\0\0" + b"abc")],
    "a profile of an unknown compression": [png_chunk(b"iCCP", b"key\0\7" + b"abc")],
    "an Exif text of 2 MB": [png_chunk(b"tEXt", b"Raw profile type exif\0" + b"a" * 2_000_000)],
    "a compressed Exif text of 2 MB": [png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(TWO_MEGABYTES))],
    "XMP of 2 MB": [png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(TWO_MEGABYTES))],
    **{f"an empty {kind.decode()}": [png_chunk(kind, b"")] for kind in SHORT},
    **{
        f"a wrong checksum of {kind.decode()}": [png_chunk(kind, b"abc", is_intact=False)] for kind in (*SHORT, b"prVt")
    },
    "a wrong checksum of its orientation": [png_chunk(b"eXIf", TIFF_OF_EXIF, is_intact=False)],
    "frames out of order": [png_chunk(b"acTL", struct.pack(">II", 3, 0)), png_chunk(b"fcTL", b"\0\0\0\7" + bytes(22))],
}


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("name", PNG_CHUNKS)
def test_ancillary_chunks_of_a_png_are_ignored(name: str, before: bytes) -> None:
    check_pixels(add_chunks(PLAIN, *PNG_CHUNKS[name], before=before), PLAIN)


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize(
    "metadata",
    [
        png_chunk(b"eXIf", TIFF_OF_EXIF),
        png_chunk(b"tEXt", b"Raw profile type exif\0" + EXIF_TEXT),
        png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(EXIF_TEXT)),
        png_chunk(b"iTXt", b"Raw profile type exif\0\0\0\0\0" + EXIF_TEXT),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
    ],
    ids=["eXIf", "tEXt", "zTXt", "iTXt", "XMP", "compressed XMP"],
)
def test_the_orientation_of_a_png_is_heeded_wherever_it_is(metadata: bytes, before: bytes) -> None:
    turned = encode("PNG", exif=EXIF)

    assert inspect_image(turned, max_pixels=MAX_PIXELS).width == SIZE[1]
    check_pixels(add_chunks(PLAIN, png_chunk(b"iCCP", COMPRESSED), metadata, before=before), turned)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_a_wrong_checksum_of_a_critical_chunk_is_refused(kind: bytes) -> None:
    data = bytearray(encode("PNG", "P"))
    start = data.index(kind)
    length = int.from_bytes(data[start - 4 : start], "big")
    data[start + 4 + length] ^= 1

    with pytest.raises(NotAnImage, match="header cannot be read"):
        inspect_image(bytes(data), max_pixels=MAX_PIXELS)


def build_apng(*, frames: int, is_default_apart: bool = False) -> bytes:
    buffer = BytesIO()
    others = [Image.new("RGB", SIZE, (number % 200, 0, 9)) for number in range(frames)]
    coffee().resize(SIZE).save(buffer, "PNG", save_all=True, append_images=others, default_image=is_default_apart)
    return buffer.getvalue()


@pytest.mark.parametrize("is_default_apart", [False, True])
def test_an_animation_is_the_image_that_it_stores_as_a_png(*, is_default_apart: bool) -> None:
    data = build_apng(frames=3, is_default_apart=is_default_apart)

    check_pixels(data, PLAIN)
    with Image.open(BytesIO(data)) as reference:
        assert np.array_equal(np.asarray(reference), np.asarray(decode(data, max_pixels=MAX_PIXELS)))


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">IIIIIHHBB", 0, 9000, 9000, 0, 0, 1, 1, 0, 0),
        struct.pack(">IIIIIHHBB", 7, 150, 100, 0, 0, 1, 1, 0, 0),
    ],
    ids=["larger than its image", "out of order"],
)
def test_frames_of_an_animation_do_not_count(frame: bytes) -> None:
    start = png_chunk(b"acTL", struct.pack(">II", 2, 0)) + png_chunk(b"fcTL", frame)
    end = png_chunk(b"fcTL", frame) + png_chunk(b"fdAT", b"\0\0\0\7" + NOISE, is_intact=False)

    check_pixels(add_chunks(add_chunks(PLAIN, start), end, before=b"IEND"), PLAIN)


def test_an_animation_of_thousands_of_frames_is_accepted() -> None:
    check_pixels(
        add_chunks(PLAIN, *[png_chunk(b"fcTL", bytes(26)), png_chunk(b"fdAT", bytes(50))] * 20_000, before=b"IEND"),
        PLAIN,
    )


def test_the_form_of_apple_is_named() -> None:
    data = add_chunks(PLAIN, png_chunk(b"CgBI", bytes(4)), before=b"IHDR")

    with pytest.raises(NotAnImage, match=r"CgBI.* save it as an ordinary PNG"):
        inspect_image(data, max_pixels=MAX_PIXELS)


def add_segments(data: bytes, marker: int, content: bytes, count: int = 1) -> bytes:
    return data[:2] + (bytes((0xFF, marker)) + struct.pack(">H", 2 + len(content)) + content) * count + data[2:]


def add_webp_chunks(data: bytes, chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(data) - 8 + len(chunks)) + data[8:] + chunks


def add_gif_extension(data: bytes, label: int, content: bytes) -> bytes:
    place = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    blocks = b"".join(
        bytes((len(content[start : start + 255]),)) + content[start : start + 255]
        for start in range(0, len(content), 255)
    )
    return data[:place] + b"!" + bytes((label,)) + blocks + b"\0" + data[place:]


BROKEN_EXIF = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 900) + b"abc"
OTHERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "comments of 50 MB": ("JPEG", lambda data: add_segments(data, 0xFE, bytes(65_533), 800)),
    "application segments of 50 MB": ("JPEG", lambda data: add_segments(data, 0xEB, bytes(65_533), 800)),
    "3,900 segments": ("JPEG", lambda data: add_segments(data, 0xE7, b"a", 3900)),
    "a profile without an end": ("JPEG", lambda data: add_segments(data, 0xE2, b"ICC_PROFILE\0\1\7abc")),
    "a profile that is too short": ("JPEG", lambda data: add_segments(data, 0xE2, b"ICC_PROFILE\0")),
    "broken Exif": ("JPEG", lambda data: add_segments(data, 0xE1, BROKEN_EXIF)),
    "empty Exif": ("JPEG", lambda data: add_segments(data, 0xE1, b"Exif\0\0")),
    "empty application segments": (
        "JPEG",
        lambda data: b"\xff\xd8" + b"".join(bytes((0xFF, kind, 0, 2)) for kind in range(0xE0, 0xF0)) + data[2:],
    ),
    "a broken Adobe segment": ("JPEG", lambda data: add_segments(data, 0xEE, b"Adobe")),
    "a broken JFIF segment": ("JPEG", lambda data: add_segments(data, 0xE0, b"JFIF")),
    "a broken Photoshop segment": ("JPEG", lambda data: add_segments(data, 0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0")),
    "a broken list of images": ("JPEG", lambda data: add_segments(data, 0xE2, b"MPF\0II*\0" + bytes(9))),
    "XMP of 60 KB": ("JPEG", lambda data: add_segments(data, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(60_000))),
    "unknown chunks": ("WEBP", lambda data: add_webp_chunks(data, (b"abcd" + struct.pack("<I", 2) + b"ab") * 2000)),
    "metadata that its header does not announce": ("WEBP", lambda data: add_webp_chunks(data, b"EXIF\2\0\0\0ab")),
    "a comment of 2 MB": ("GIF", lambda data: add_gif_extension(data, 0xFE, NOISE)),
    "an application extension": ("GIF", lambda data: add_gif_extension(data, 0xFF, b"NETSCAPE2.0")),
    "an unknown extension": ("GIF", lambda data: add_gif_extension(data, 0x77, bytes(5000))),
    "a control extension that is too short": ("GIF", lambda data: add_gif_extension(data, 0xF9, b"a")),
    **{
        f"bytes behind its end, {kind}": (kind, lambda data: data + NOISE)
        for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_data_of_a_file_is_ignored(name: str) -> None:
    kind, change = OTHERS[name]
    plain = encode(kind)

    check_pixels(change(plain), plain)


@pytest.mark.parametrize("profile", [b"a", b"no profile" * 30, NOISE[:300_000]], ids=["short", "text", "long"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_broken_profile_is_ignored(kind: str, profile: bytes) -> None:
    check_pixels(encode(kind, icc_profile=profile), encode(kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_metadata_counts_as_upright(kind: str) -> None:
    check_pixels(encode(kind, exif=BROKEN_EXIF), encode(kind))


def build_tiff(*entries: tuple[int, int, int, int], data: bytes = b"") -> bytes:
    """Return a grey TIFF of 8 x 8 pixels with other tags; `data` begins at byte 4160."""
    own = ((256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 4096))
    table = sorted((*own, (277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, 64), *entries))
    head = b"II*\0" + struct.pack("<IH", 8, len(table)) + b"".join(struct.pack("<HHII", *one) for one in table)
    return (head + bytes(4)).ljust(4096, b"\0") + bytes(range(64)) + data


@pytest.mark.parametrize(
    "entry",
    [
        (65_000, 7, 1_000_000, 4160),
        (65_000, 99, 5, 4160),
        (65_000, 2, 1_000_000, 4160),
        (37_724, 7, 1_000_000, 4160),
        (33_723, 4, 200, 4160),
        (700, 1, 1_000_000, 4160),
        (34_665, 4, 1, 4160),
        (34_853, 4, 1, 2**32 - 1),
        (65_000, 7, 1_000_000, 2**32 - 1),
    ],
    ids=["private", "unknown type", "text", "Photoshop", "IPTC", "XMP", "Exif", "GPS beyond its end", "beyond its end"],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_odd_tags_of_a_tiff_are_ignored(entry: tuple[int, int, int, int]) -> None:
    check_pixels(build_tiff(entry, data=NOISE[:1_000_000]), build_tiff())


def test_many_texts_of_a_png_are_accepted() -> None:
    texts = PngInfo()
    for number in range(500):
        texts.add_itxt(f"key {number}", "a text", zip=True)

    check_pixels(encode("PNG", pnginfo=texts), PLAIN)


def test_metadata_that_is_read_is_still_bounded() -> None:
    tags = b"II*\0" + struct.pack("<IH", 8, 60_000) + bytes(12 * 60_000)

    with pytest.raises(ImageTooCostly):
        inspect_image(add_chunks(PLAIN, png_chunk(b"eXIf", tags), before=b"IEND"), max_pixels=MAX_PIXELS)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=20), max_size=8),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 90)), max_size=9),
    st.sampled_from([0, 1000]),
)
def test_a_spliced_file_reads_like_its_parts(parts: list[bytes], steps: list[tuple[int, int]], max_copied: int) -> None:
    with mock.patch.object(spliced_file, "_MAX_COPIED_BYTES", max_copied):
        spliced, whole = splice([memoryview(part) for part in parts]), BytesIO(b"".join(parts))

    for kind, number in steps:
        if kind:
            assert spliced.read(number) == whole.read(number)
        else:
            assert spliced.seek(number) == whole.seek(number)
        assert spliced.tell() == whole.tell()
