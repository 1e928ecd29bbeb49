"""Facts of an image from its header, and whether its file is complete, without decoding any pixels.

The file's blocks are walked first, within limits, because Pillow's parsers have none for hostile files.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping

from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from shared.errors import NotAnImage, TruncatedImage
from shared.images import FORMATS, detect_image_format, open_image, upright_size
from shared.jobs.model import ImageFacts

# Files of real encoders stay far below these limits; a hostile file takes a few milliseconds.
_MAX_BLOCKS = 10_000
_MAX_GIF_METADATA_BLOCKS = 4_000
_MAX_GIF_PIXEL_BLOCKS = 1_000_000
_MAX_PNG_PIXEL_CHUNKS = 200_000
_MAX_JUNK_BYTES = 65_536

_SOS = 0xDA
_STANDALONE = frozenset({0x00, 0x01, 0xD8, *range(0xD0, 0xD8)})  # JPEG markers without a length
_END_OF_JPEG = b"\xff\xd9"


def inspect_image(data: bytes, *, max_pixels: int) -> ImageFacts:
    """Return the facts of an image; width and height, in pixels, are those of the image turned upright.

    Raises:
        NotAnImage: the bytes are not an image of a supported format.
        TruncatedImage: the file stops before its end.
        ImageTooLarge: it has more than `max_pixels` pixels.
    """
    name = detect_image_format(data)
    if name is None:
        raise NotAnImage(f"The bytes are not a {FORMATS} image")
    try:
        late_metadata = _walk(name, data)
    except (IndexError, struct.error) as error:
        raise _truncated_error(name) from error
    image = open_image(data, max_pixels=max_pixels)
    if late_metadata is not None:
        image.info["exif"] = late_metadata
    if _pixel_data_end(image) > len(data):
        raise _truncated_error(name)
    width, height = upright_size(image)
    return ImageFacts(format=name, width=width, height=height, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _walk(name: str, data: bytes) -> bytes | None:
    """Walk a file's blocks to its end; return Exif metadata that Pillow finds only when it decodes the pixels.

    Raises:
        TruncatedImage, IndexError, struct.error: the file stops before its end.
        NotAnImage: the blocks are malformed.
    """
    if name == "jpeg":
        _walk_jpeg(data)
    elif name == "png":
        return _walk_png(data)
    elif name == "gif":
        _walk_gif(data)
    elif name == "webp" and 8 + struct.unpack_from("<I", data, 4)[0] > len(data):
        raise _truncated_error(name)
    return None


def _walk_jpeg(data: bytes) -> None:
    position = 2
    for _ in range(_MAX_BLOCKS):
        found = data.find(b"\xff", position, position + _MAX_JUNK_BYTES)
        if found < 0:
            break
        marker = data[found + 1]
        if marker == _SOS:
            # The search starts at the end of the file; a thumbnail's end marker lies before this point.
            if data.rfind(_END_OF_JPEG, found) < 0:
                raise _truncated_error("jpeg")
            return
        if marker == 0xFF:
            position = found + 1
        elif marker in _STANDALONE:
            position = found + 2
        else:
            position = found + 2 + int(struct.unpack_from(">H", data, found + 2)[0])
    if position >= len(data):
        raise _truncated_error("jpeg")
    raise _malformed_error("jpeg")


def _walk_png(data: bytes) -> bytes | None:
    position = 8
    pixel_chunks = 0
    late_metadata = None
    for steps in range(_MAX_BLOCKS + _MAX_PNG_PIXEL_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise _truncated_error("png")
        if kind == b"IEND":
            return late_metadata
        if kind == b"IDAT":
            pixel_chunks += 1
        elif kind == b"eXIf" and pixel_chunks:
            late_metadata = b"Exif\x00\x00" + data[position + 8 : end - 4]
        if steps - pixel_chunks > _MAX_BLOCKS:
            break
        position = end
    raise _malformed_error("png")


def _walk_gif(data: bytes) -> None:
    """Walk the file to the end of its first frame; the others are not used."""
    position = 13 + _gif_palette_bytes(data[10])
    metadata_blocks = 0
    while metadata_blocks <= _MAX_GIF_METADATA_BLOCKS:
        introducer = data[position]
        if introducer == 0x2C:
            pixels_at = position + 10 + _gif_palette_bytes(data[position + 9]) + 1
            _skip_gif_blocks(data, pixels_at, _MAX_GIF_PIXEL_BLOCKS)
            return
        if introducer == 0x3B:
            break
        if introducer == 0x21:
            position, blocks = _skip_gif_blocks(data, position + 2, _MAX_GIF_METADATA_BLOCKS)
            metadata_blocks += blocks
        else:
            position += 1
        metadata_blocks += 1
    raise _malformed_error("gif")


def _gif_palette_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_gif_blocks(data: bytes, position: int, max_blocks: int) -> tuple[int, int]:
    """Return the position behind a chain of sub-blocks, and their number."""
    for blocks in range(max_blocks):
        length = data[position]
        position += 1 + length
        if length == 0:
            return position, blocks
    raise _malformed_error("gif")


def _pixel_data_end(image: ImageFile) -> int:
    """Return the number of bytes that a BMP or TIFF file needs for its pixels; 0 if only decoding can tell."""
    if isinstance(image, TiffImageFile):
        return max(_tiff_block_ends(image.tag_v2), default=0)
    return max((_raw_tile_end(tile) for tile in image.tile if image.format == "BMP" and tile[0] == "raw"), default=0)


def _raw_tile_end(tile: tuple[object, ...]) -> int:
    match tile:
        case ("raw", (_, int(top), _, int(bottom)), int(offset), (_, int(stride), *_)):
            return offset + stride * (bottom - top)
    return 0


def _tiff_block_ends(tags: Mapping[int, object]) -> Iterable[int]:
    for offsets_tag, lengths_tag in ((273, 279), (324, 325)):  # strips, tiles
        match tags.get(offsets_tag), tags.get(lengths_tag):
            case tuple(offsets), tuple(lengths):
                yield from (
                    offset + length
                    for offset, length in zip(offsets, lengths, strict=False)
                    if isinstance(offset, int) and isinstance(length, int)
                )


def _truncated_error(name: str) -> TruncatedImage:
    return TruncatedImage(f"The {name.upper()} image stops before its end: the upload was cut short")


def _malformed_error(name: str) -> NotAnImage:
    return NotAnImage(f"The bytes begin like a {name.upper()} image, but the rest is malformed")
