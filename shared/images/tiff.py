"""The strips and tiles of a TIFF."""

from operator import add

from PIL.ExifTags import Base as Tag

from shared.errors import ImageTooCostly, NotAnImage
from shared.images.directory import Entry
from shared.images.structure import Structure, check_tile, excess_error, malformed_error, truncated_error
from shared.images.tiff_layout import JPEG_COMPRESSIONS, read_layout
from shared.images.tiff_pages import choose_directory

MAX_BLOCKS = 65_536  # strips or tiles: one for each row of a high image, or of 32 x 32 pixels
_BIG_ENDIAN_BIG_TIFF = b"MM\x00+"  # Pillow reads its header as that of a classic TIFF
# Tags of offsets and lengths: of strips, of tiles.
_BLOCKS = ((Tag.StripOffsets, Tag.StripByteCounts), (Tag.TileOffsets, Tag.TileByteCounts))
_SCANS_PER_BLOCK = 4
_MORE_SCANS = 16


def read_tiff(data: bytes) -> Structure:
    """Read the directory of the photo, and check what it says of pixels, strips and tiles.

    Raises:
        TruncatedImage, struct.error: the file stops before its end.
        NotAnImage: the pixels are stored in a way that is not decoded, or their places are no whole numbers.
        ImageTooCostly: there are too many strips or tiles, or they are too large.
    """
    if data[:4] == _BIG_ENDIAN_BIG_TIFF:
        raise NotAnImage("The TIFF image is a BigTIFF with the high byte first, which is not supported; save it anew")
    directory = choose_directory(data)
    layout = read_layout(directory, data)
    layout.check()
    tile = directory.read_number(data, Tag.TileWidth), directory.read_number(data, Tag.TileLength)
    check_tile("TIFF", tile, layout.size)
    for offsets_tag, lengths_tag in _BLOCKS:
        for tag in (offsets_tag, lengths_tag):
            entry = directory.entries.get(tag)
            if entry is not None:
                _check_blocks(entry)
        offsets = directory.read_numbers(data, offsets_tag, MAX_BLOCKS)
        lengths = directory.read_numbers(data, lengths_tag, MAX_BLOCKS)
        if max(map(add, offsets, lengths), default=0) > len(data):
            raise truncated_error("TIFF")
        if layout.compression in JPEG_COMPRESSIONS:
            _check_scans(data, offsets, lengths)
    return Structure()


def _check_blocks(entry: Entry) -> None:
    if entry.count > MAX_BLOCKS:
        raise excess_error("TIFF", MAX_BLOCKS, "strips or tiles")
    if not entry.has_numbers:
        raise malformed_error("TIFF")


def _check_scans(data: bytes, offsets: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    """Check the scans of strips or tiles that are JPEGs: a decoder visits all pixels of one for each of its scans."""
    starts = [offset for offset in offsets if offset]
    end = max(map(add, offsets, lengths), default=0)
    scans = data.count(b"\xff\xda", min(starts, default=0), end)
    if len(set(starts)) < len(starts) or scans > _SCANS_PER_BLOCK * len(starts) + _MORE_SCANS:
        raise ImageTooCostly("The TIFF image has too many JPEG scans, which take too long to decode; save it anew")
