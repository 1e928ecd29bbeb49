"""Photos that are stored turned, and the metadata that says so, written byte by byte."""

import struct

from PIL import Image
from PIL.Image import Transpose

ORIENTATION = 0x0112
# By the value of the tag: what makes the stored image upright, by the table of Exif 2.32, section 4.6.4.
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_INVERSE = UPRIGHT | {6: Transpose.ROTATE_90, 8: Transpose.ROTATE_270}


def store_turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return the pixels that an upright image has in a file with that orientation."""
    return image.transpose(_INVERSE[orientation]) if orientation in _INVERSE else image


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the upright image of a stored one."""
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def build_exif(orientation: int, *, order: str = "<", thumbnail: bytes = b"") -> bytes:
    """Return a TIFF directory with an orientation, as Exif is; without the prefix that a JPEG needs.

    Args:
        order: `<` is little endian, `>` big endian.
        thumbnail: a JPEG for a second directory, which a camera writes behind the first.
    """
    entries = (
        struct.pack(order + "HHI4s", 0x010F, 2, 4, b"Cam\0")
        + struct.pack(order + "HHIHH", ORIENTATION, 3, 1, orientation, 0)
        + struct.pack(order + "HHIHH", 0x0128, 3, 1, 2, 0)
    )
    first = struct.pack(order + "H", 3) + entries
    magic = b"II" if order == "<" else b"MM"
    head = magic + struct.pack(order + "HI", 42, 8)
    if not thumbnail:
        return head + first + bytes(4)
    second = 8 + len(first) + 4
    start = second + 2 + 3 * 12 + 4
    places = (
        struct.pack(order + "HHIHH", 0x0103, 3, 1, 6, 0)
        + struct.pack(order + "HHII", 0x0201, 4, 1, start)
        + struct.pack(order + "HHII", 0x0202, 4, 1, len(thumbnail))
    )
    return head + first + struct.pack(order + "IH", second, 3) + places + bytes(4) + thumbnail


def build_xmp(orientation: int) -> bytes:
    """Return an XMP packet with an orientation, as programs write it that keep no Exif."""
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()
