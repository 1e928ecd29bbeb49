"""TIFF files of layouts that Pillow does not write, from arrays and tags."""

import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import tifffile

Tag = tuple[str, Sequence[float]]  # of type (a letter of struct) and values
_TYPES = {"B": 1, "H": 3, "I": 4, "b": 6, "h": 8, "i": 9, "f": 11, "d": 12}
PHOTOMETRIC, MIN_SAMPLE, MAX_SAMPLE, SMIN_SAMPLE, SMAX_SAMPLE, COLORMAP = 262, 280, 281, 340, 341, 320


def encode_tiff(array: np.ndarray, *, order: str = "<", **options: Any) -> bytes:
    """Return a TIFF of one image as tifffile writes it; `array` is (H, W), (H, W, C), or (C, H, W) if planar."""
    return _write(array, options, byteorder=order)


def encode_big_tiff(array: np.ndarray, *, order: str = "<", **options: Any) -> bytes:
    """Return a BigTIFF of one grey image."""
    return _write(array, {"photometric": "minisblack", **options}, byteorder=order, bigtiff=True)


def _write(array: np.ndarray, options: Mapping[str, Any], **file: Any) -> bytes:
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer, **file) as writer:
        writer.write(array, **{"metadata": None, **options})
    return buffer.getvalue()


def build_tiff(
    pixels: bytes, *, size: tuple[int, int], bits: Sequence[int], photometric: int, order: str = "<", **tags: Tag
) -> bytes:
    """Return an uncompressed TIFF of one strip whose bytes are given; other tags are named `tag_NUMBER`."""
    all_tags: dict[int, Tag] = {
        256: ("I", [size[0]]),
        257: ("I", [size[1]]),
        258: ("H", bits),
        259: ("H", [1]),
        PHOTOMETRIC: ("H", [photometric]),
        273: ("I", [8]),
        277: ("H", [len(bits)]),
        278: ("I", [size[1]]),
        279: ("I", [len(pixels)]),
        **{int(name.removeprefix("tag_")): tag for name, tag in tags.items()},
    }
    pixels += b"\0" * (len(pixels) % 2)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8 + len(pixels)) + pixels + _pack(all_tags, 8 + len(pixels), order)


def _pack(tags: Mapping[int, Tag], start: int, order: str) -> bytes:
    """Return a directory that begins at `start`, and the values behind it."""
    entries = values = b""
    values_at = start + 2 + 12 * len(tags) + 4
    for number, (letter, numbers) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        entries += struct.pack(order + "HHI", number, _TYPES[letter], len(numbers))
        if len(packed) <= 4:
            entries += packed.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "I", values_at + len(values))
            values += packed + b"\0" * (len(packed) % 2)
    return struct.pack(order + "H", len(tags)) + entries + bytes(4) + values


def pack_bits(samples: np.ndarray, bits: int) -> bytes:
    """Return rows of samples (H, W) of so many bits each, the highest first, each row filled to a byte."""
    planes = (samples[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()
