"""Real images for tests, public domain or CC0, from the wheels of scikit-image and matplotlib: no downloads."""

import struct
import zlib
from importlib import resources
from io import BytesIO
from typing import Any

from PIL import Image
from skimage import data

EXIF_ORIENTATION = 0x0112
ROTATED_LEFT = 6


def astronaut() -> Image.Image:
    """A woman in a space suit, 512 x 512."""
    return Image.fromarray(data.astronaut())


def cat() -> Image.Image:
    """A cat's face, 451 x 300."""
    return Image.fromarray(data.chelsea())


def coffee() -> Image.Image:
    """A cup on a table, 600 x 400."""
    return Image.fromarray(data.coffee())


def grey() -> Image.Image:
    """A photographer on a lawn, 512 x 512, one channel."""
    return Image.fromarray(data.camera())


def admiral() -> Image.Image:
    """Grace Hopper in uniform before a flag, 512 x 600."""
    with (resources.files("matplotlib") / "mpl-data/sample_data/grace_hopper.jpg").open("rb") as file:
        return Image.open(file).convert("RGB")


def sample_images() -> dict[str, Image.Image]:
    """Return upright RGB images by name, of sizes that are edge cases of a resize: odd, narrow, tiny, large."""
    return {
        "astronaut": astronaut(),
        "cat": cat(),
        "coffee": coffee(),
        "grey": grey().convert("RGB"),
        "odd": astronaut().crop((3, 5, 340, 466)),
        "narrow": coffee().crop((0, 100, 600, 160)),
        "tall": cat().resize((97, 731)),
        "tiny": cat().resize((31, 23)),
        "large": coffee().resize((1801, 1203)),
    }


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as Pillow writes it in a format."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes, *, is_intact: bool = True) -> bytes:
    """Return a chunk of a PNG, with its checksum or a wrong one."""
    checksum = zlib.crc32(kind + content) ^ (not is_intact)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def jpeg(image: Image.Image, *, orientation: int | None = None) -> bytes:
    """Encode an image as JPEG, with an EXIF orientation if given."""
    exif = Image.Exif()
    if orientation is not None:
        exif[EXIF_ORIENTATION] = orientation
    return encode(image, "JPEG", quality=92, exif=exif)


def sideways_cat() -> bytes:
    """The cat as a phone stores it: rotated by 90 degrees, with an EXIF orientation that says so."""
    return jpeg(cat().rotate(90, expand=True), orientation=ROTATED_LEFT)
