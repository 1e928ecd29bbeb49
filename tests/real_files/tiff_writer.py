"""Writes TIFFs of any directories, tags and sample formats, also those that no library writes (TIFF 6.0, section 2)."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SHORT, LONG, TEXT, BYTES = 3, 4, 2, 1
Tag = tuple[int, Sequence[int] | bytes]  # the type, and the values

SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_LENGTHS = 273, 277, 278, 279
FILL_ORDER, MAX_SAMPLE, SUBDIRECTORIES, SAMPLE_FORMAT = 266, 281, 330, 339
SIGNED, FLOAT = 2, 3
COLOUR_MAP, YCBCR_SUBSAMPLING = 320, 530
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
_LAYOUTS = {SHORT: "H", LONG: "I"}


@dataclass(frozen=True, slots=True)
class Page:
    """One directory: its tags without the places of strips, its strips, and its children (SubIFDs)."""

    tags: Mapping[int, Tag]
    strips: Sequence[bytes] = ()
    children: Sequence["Page"] = field(default=())


def build_tiff(*pages: Page, order: str = "<") -> bytes:
    """Return a TIFF of pages that are a chain.

    Args:
        order: `<` is little endian, `>` big endian; the samples of the pages must be in the same order.
    """
    file = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))
    link = 4
    for page in pages:
        start, next_link = _append(file, page, order)
        struct.pack_into(order + "I", file, link, start)
        link = next_link
    return bytes(file)


def _append(file: bytearray, page: Page, order: str) -> tuple[int, int]:
    """Append a page and its children; return the places of its directory and of the link to the next one."""
    children = [_append(file, child, order)[0] for child in page.children]
    tags = dict(page.tags)
    if page.strips:
        tags[STRIP_OFFSETS] = LONG, [_append_bytes(file, strip) for strip in page.strips]
        tags[STRIP_LENGTHS] = LONG, [len(strip) for strip in page.strips]
    if children:
        tags[SUBDIRECTORIES] = LONG, children
    entries = [_encode(file, number, *tags[number], order) for number in sorted(tags)]
    start = _append_bytes(file, struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4))
    return start, len(file) - 4


def _encode(file: bytearray, number: int, kind: int, values: Sequence[int] | bytes, order: str) -> bytes:
    """Return the entry of a tag; its values are appended to the file if they are too long for it."""
    content = values if isinstance(values, bytes) else struct.pack(f"{order}{len(values)}{_LAYOUTS[kind]}", *values)
    place = content.ljust(4, b"\0") if len(content) <= 4 else struct.pack(order + "I", _append_bytes(file, content))
    return struct.pack(order + "HHI", number, kind, len(values)) + place


def _append_bytes(file: bytearray, content: bytes) -> int:
    """Append at an even place, which is returned."""
    file += bytes(len(file) % 2)
    start = len(file)
    file += content
    return start


def describe(samples: NDArray[np.generic], bits: int, photometric: int) -> dict[int, Tag]:
    """Return the tags of (H, W) or (H, W, C) samples without compression, in one strip."""
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    return {
        WIDTH: (LONG, [width]),
        LENGTH: (LONG, [height]),
        BITS: (SHORT, [bits] * channels),
        COMPRESSION: (SHORT, [1]),
        PHOTOMETRIC: (SHORT, [photometric]),
        SAMPLES: (SHORT, [channels]),
        ROWS_PER_STRIP: (LONG, [height]),
    }
