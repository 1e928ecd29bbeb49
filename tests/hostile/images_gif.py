"""Hostile GIFs."""

import struct
from collections.abc import Sequence
from io import BytesIO

from PIL import Image

from tests.hostile.inputs import HostileInput, send_image
from tests.support import hostile_images as hostile
from tests.support.images import coffee


def photo() -> bytes:
    buffer = BytesIO()
    coffee().resize((150, 100)).save(buffer, "GIF")
    return buffer.getvalue()


def blocks(content: bytes, *, width: int = 8, height: int = 8) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(3) + content


def frame(width: int, height: int, content: bytes = b"\x02\x44\x01\x00", *, left: int = 0) -> bytes:
    """Return an image block; `content` is coded data in sub-blocks."""
    return b"," + struct.pack("<HHHHB", left, 0, width, height, 0) + b"\x02" + content


def sub_blocks() -> bytes:
    return b"\x01a" * 4_000_000


def animation(frames: int) -> bytes:
    images = [Image.new("P", (40, 40), number % 250) for number in range(frames)]
    buffer = BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], optimize=False)
    return buffer.getvalue()


INPUTS: Sequence[HostileInput] = (
    send_image("its signature alone", 400, lambda: b"GIF89a"),
    send_image("the half of a file", 400, lambda: photo()[: len(photo()) // 2]),
    send_image("no frame", 400, lambda: blocks(b";")),
    send_image("an end before its frame", 400, lambda: blocks(b";" + frame(8, 8))),
    send_image("junk before its frame", 422, lambda: blocks(bytes(8_000_000))),
    send_image("a comment of 4 million blocks", 422, lambda: blocks(b"!\xfe" + sub_blocks())),
    send_image("an application block of 4 million blocks", 422, lambda: blocks(b"!\xff" + sub_blocks())),
    send_image("a million extensions", 422, lambda: blocks(b"!\xfe\0" * 1_000_000)),
    send_image("a million control blocks", 422, lambda: blocks(b"!\xf9\4\0\0\0\0\0" * 1_000_000)),
    send_image("4 million blocks of pixels", 422, lambda: blocks(frame(8, 8, sub_blocks()))),
    send_image("a chain without an end", 400, lambda: blocks(b"!\xfe" + b"\xff" * 1000)),
    send_image("a canvas of 65,535 pixels", 413, lambda: hostile.build_gif_of_a_huge_canvas(side=65_535)),
    send_image("a canvas of 36 megapixels", 200, lambda: hostile.build_gif_of_a_huge_canvas(side=6000)),
    send_image("a frame larger than its canvas", 413, lambda: blocks(frame(65_535, 65_535))),
    send_image("a frame far outside of its canvas", 413, lambda: blocks(frame(8, 8, left=65_530))),
    send_image("a canvas of no pixels", 400, lambda: blocks(frame(0, 0), width=0, height=0)),
    send_image("a frame without pixels", 400, lambda: blocks(frame(8, 8, b"\0")), 200),
    send_image("too few pixels", 400, lambda: blocks(frame(2000, 2000) + b";"), 200),
    send_image("damaged codes", 400, lambda: blocks(frame(200, 200, b"\xff" + b"\xff" * 255 + b"\0")), 200),
    send_image("a code size of 255", 400, lambda: blocks(b"," + bytes(4) + b"\x08\0\x08\0\0\xff\x01a\0"), 200),
    send_image("2,000 frames", 200, lambda: animation(2000)),
)
