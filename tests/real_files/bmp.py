"""BMPs of every header, depth and compression, written field by field."""

import struct
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.real_files.files import CLOSE, RealFile, refuse, same, variants
from tests.real_files.photos import indexed_twin, palette_image, portrait, portrait_samples, transparent_portrait

_RAW, _RLE8, _RLE4, _MASKS = 0, 1, 2, 3
_FILE_BYTES = 14
_INFO, _V4, _V5 = 40, 108, 124  # lengths of the headers
_MASKS_555 = (0x7C00, 0x03E0, 0x001F)
_MASKS_565 = (0xF800, 0x07E0, 0x001F)
_MASKS_BGRA = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
_MASKS_RGBA = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)


def write(
    rows: bytes,
    bits: int,
    *,
    compression: int = _RAW,
    header_bytes: int = _INFO,
    palette: bytes = b"",
    masks: Sequence[int] = (),
    is_top_down: bool = False,
) -> bytes:
    """Return a BMP of the portrait's size; the header has room for the masks."""
    width, height = portrait().size
    numbers = (
        width,
        -height if is_top_down else height,
        1,
        bits,
        compression,
        len(rows),
        2835,
        2835,
        len(palette) // 4,
        0,
    )
    fields = struct.pack("<iiHHIIiiII", *numbers) + struct.pack(f"<{len(masks)}I", *masks)
    header = struct.pack("<I", header_bytes) + fields.ljust(header_bytes - 4, b"\0")
    return join(header + palette, rows)


def join(header: bytes, rows: bytes) -> bytes:
    start = _FILE_BYTES + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + rows


def pad(rows: NDArray[np.uint8], *, is_top_down: bool = False) -> bytes:
    """Return (H, bytes of a row), each row filled to four bytes, the last row first."""
    filled = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    return (filled if is_top_down else filled[::-1]).tobytes()


def bgr() -> NDArray[np.uint8]:
    return portrait_samples()[..., ::-1].reshape(240, -1)


def bgra() -> NDArray[np.uint8]:
    """Return the portrait with alpha, (H, 4 W)."""
    return np.asarray(transparent_portrait())[..., [2, 1, 0, 3]].reshape(240, -1)


def palette(bits: int, bytes_each: int = 4) -> bytes:
    colours = np.zeros((1 << bits, 4), np.uint8)
    stored = np.array(palette_image(1 << bits).getpalette(), np.uint8).reshape(-1, 3)[: 1 << bits, ::-1]
    colours[: len(stored), :3] = stored
    return colours[:, :bytes_each].tobytes()


def pack_indices(bits: int) -> NDArray[np.uint8]:
    """Return the indices of the portrait of 2^bits colours, (H, bytes of a row)."""
    samples = np.asarray(palette_image(1 << bits))
    each = np.unpackbits(samples[..., None], axis=2)[..., 8 - bits :]
    return np.packbits(each.reshape(240, -1), axis=1)


def write_indexed(bits: int) -> bytes:
    return write(pad(pack_indices(bits)), bits, palette=palette(bits))


def runs(bits: int) -> bytes:
    """Return the portrait of 2^bits colours as runs of one colour."""
    parts = bytearray()
    for row in np.asarray(palette_image(1 << bits))[::-1]:
        for value, group in groupby(row.tolist()):
            count = len(list(group))
            parts += b"".join(
                bytes((min(255, count - at), value * (1 if bits == 8 else 17))) for at in range(0, count, 255)
            )
        parts += b"\0\0"
    return write(bytes(parts) + b"\0\1", bits, compression=_RLE8 if bits == 8 else _RLE4, palette=palette(bits))


def levels(bits: Sequence[int]) -> NDArray[np.uint16]:
    """Return the portrait in so many bits for red, green and blue, (H, W, 3)."""
    return (portrait_samples() >> (8 - np.array(bits))).astype(np.uint16)


def write_16(masks: Sequence[int], bits: Sequence[int]) -> bytes:
    """Return 16 bits a pixel; without masks there are five for each channel."""
    red, green, blue = np.moveaxis(levels(bits), 2, 0)
    values = (red << (bits[1] + bits[2])) | (green << bits[2]) | blue
    rows = pad(values.astype("<u2").view(np.uint8).reshape(240, -1))
    if not masks:
        return write(rows, 16)
    return write(rows, 16, compression=_MASKS, header_bytes=_INFO + 12, masks=masks)


def twin_16(bits: Sequence[int]) -> Image.Image:
    most = (1 << np.array(bits)) - 1
    return Image.fromarray((levels(bits).astype(np.uint32) * 255 // most).astype(np.uint8))


def os2() -> bytes:
    """Return the form of OS/2: short numbers, and a palette of three bytes each."""
    header = struct.pack("<IHHHH", 12, *portrait().size, 1, 8)
    return join(header + palette(8, 3), pad(pack_indices(8)))


FILES: Sequence[RealFile] = (
    *(
        same(f"{1 << bits} colours", lambda bits=bits: write_indexed(bits), lambda bits=bits: indexed_twin(1 << bits))
        for bits in (1, 8)
    ),
    same("16 bits", lambda: write_16((), (5, 5, 5)), lambda: twin_16((5, 5, 5)), CLOSE),
    same("24 bits", lambda: write(pad(bgr()), 24), portrait),
    same(
        "32 bits, red first",
        lambda: write(
            pad(np.asarray(transparent_portrait()).reshape(240, -1)),
            32,
            compression=_MASKS,
            header_bytes=_V5,
            masks=_MASKS_RGBA,
        ),
        portrait,
    ),
    same("header of OS/2", os2, indexed_twin),
    same("runs of 8 bits", lambda: runs(8), indexed_twin),
    same("runs of 4 bits", lambda: runs(4), lambda: indexed_twin(16)),
    *variants(
        same(
            "32 bits with masks",
            lambda: write(pad(bgra()), 32, compression=_MASKS, header_bytes=_V4, masks=_MASKS_BGRA),
            portrait,
        ),
        same("16 colours", lambda: write_indexed(4), lambda: indexed_twin(16)),
        same("16 bits with masks", lambda: write_16(_MASKS_565, (5, 6, 5)), lambda: twin_16((5, 6, 5)), CLOSE),
        same("24 bits, top down", lambda: write(pad(bgr(), is_top_down=True), 24, is_top_down=True), portrait),
        same("32 bits", lambda: write(pad(bgra()), 32), portrait),
        same("header of version 5", lambda: write(pad(bgr()), 24, header_bytes=_V5), portrait),
        same("data behind the end", lambda: write(pad(bgr()), 24) + bytes(1000), portrait),
    ),
    refuse("its first half", "stops before its end", lambda: write(pad(bgr()), 24)[:100_000]),
    refuse("a JPEG inside", "header", lambda: write(bytes(5000), 0, compression=4)),
)
