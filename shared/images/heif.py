"""HEIC and AVIF: the coded image, or the grid of tiles, and how it is cropped and turned.

The primary item is taken: of a sequence the still image, and no thumbnail, depth map, gain map or alpha plane.  Neither
libheif nor libavif sees the file: a decoder gets the coded data of one tile at a time (worker/decoding/heif.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from shared.errors import ImageTooCostly, NotAnImage
from shared.images.heif_meta import Meta, Property, read_meta
from shared.images.isobmff import Box, Cursor
from shared.images.structure import Size, check_tile, malformed_error

HEVC, AV1 = b"hvc1", b"av01"
_CONFIGURATIONS = {HEVC: b"hvcC", AV1: b"av1C"}
_GRID = b"grid"
_UNSUPPORTED = {
    b"vvc1": "VVC",
    b"evc1": "EVC",
    b"avc1": "H.264",
    b"jpeg": "JPEG",
    b"j2k1": "JPEG 2000",
    b"hev1": "HEVC without a header",
    b"lhv1": "HEVC in layers",
    b"unci": "uncompressed",
    b"iovl": "an overlay of images",
    b"iden": "a copy of another image",
    b"tmap": "a tone map",
    b"mski": "a mask",
}
_CROP, _ROTATION, _MIRROR = b"clap", b"irot", b"imir"
_TRANSFORMATIONS = frozenset({_CROP, _ROTATION, _MIRROR})
# What a decoder needs beside the size; `colr` only if it is a matrix (nclx), because profiles are not applied.
_DECODING = frozenset({b"ispe", b"pixi", b"a1op", b"a1lx", b"lsel"})
_WITHOUT_INFLUENCE = frozenset({b"pasp", b"auxC", b"colr", b"clli", b"mdcv", b"cclv", b"amve", b"rloc", b"rref"})
_SAMPLES = (1.0, 1.5, 2.0, 3.0)  # by chroma format: none, 4:2:0, 4:2:2, 4:4:4
# By quarter turns to the left, then whether it is mirrored: the value of the EXIF tag Orientation that says the same.
_ORIENTATIONS = {
    (0, False): 1,
    (1, False): 8,
    (2, False): 3,
    (3, False): 6,
    (0, True): 2,
    (1, True): 7,
    (2, True): 4,
    (3, True): 5,
}


@dataclass(frozen=True, slots=True)
class Tile:
    """A coded image.

    size: (width, height) in pixels.
    properties: the boxes that its decoder needs.
    extents: where its data is in the file.
    decoded_bytes: for a pixel, of all planes.
    channels: 3, or 1 if it is grey.
    """

    size: Size
    properties: tuple[Box, ...]
    extents: tuple[tuple[int, int], ...]
    decoded_bytes: float
    channels: int


@dataclass(frozen=True, slots=True)
class HeifImage:
    """The image of a file, as a raster of tiles; one, unless it is a grid.

    codec: HEVC or AV1.
    canvas: (width, height) of the raster; what tiles have beyond it is not shown.
    columns: of tiles, which come row by row.
    crop: (left, top, right, bottom) of the part of the canvas that is shown.
    orientation: as in the EXIF tag, applied after the crop.
    """

    codec: bytes
    canvas: Size
    columns: int
    tiles: tuple[Tile, ...]
    crop: tuple[int, int, int, int]
    orientation: int

    @property
    def size(self) -> Size:
        """(width, height) of what is shown, before it is turned upright."""
        left, top, right, bottom = self.crop
        return right - left, bottom - top


def read_heif(data: bytes) -> HeifImage:
    """Read what is said of the primary item.

    Raises:
        NotAnImage: the boxes contradict each other, or the image is coded in a way that is not supported.
        TruncatedImage: the file stops before its end.
        ImageTooCostly: there are more boxes, items or properties than any encoder makes, or tiles are too large.
    """
    meta = read_meta(data)
    if meta is None:
        raise NotAnImage(
            "The file is a sequence of images without a still image, which is not supported: send one frame"
        )
    kind = meta.kinds.get(meta.primary, b"")
    properties = meta.list_properties(meta.primary)
    _check_essential(properties)
    canvas, columns, items = _read_grid(meta) if kind == _GRID else (_read_size(meta, properties), 1, [meta.primary])
    codec = _read_codec(meta, items)
    matrix = _find_matrix(meta, properties)
    tiles = tuple(_read_tile(meta, item, codec, matrix) for item in items)
    _check_tiles(canvas, columns, tiles, len(data))
    crop, orientation = _read_transformations(meta, properties, canvas)
    return HeifImage(codec, canvas, columns, tiles, crop, orientation)


def _read_codec(meta: Meta, items: Sequence[int]) -> bytes:
    kinds = {meta.kinds.get(item, b"") for item in items}
    unsupported = next((kind for kind in sorted(kinds) if kind not in _CONFIGURATIONS), None)
    if unsupported is not None:
        name = _UNSUPPORTED.get(unsupported, f"`{unsupported.decode('ascii', 'replace')}`")
        raise NotAnImage(f"The HEIC or AVIF image is coded as {name}, which is not supported: send it as JPEG or PNG")
    if len(kinds) != 1:
        raise malformed_error("HEIC or AVIF")
    return kinds.pop()


def _read_grid(meta: Meta) -> tuple[Size, int, list[int]]:
    """Return the size of a grid, its columns and its tiles (ISO/IEC 23008-12, 6.6.2.3.2)."""
    start, end = meta.list_extents(meta.primary)[0]
    cursor = Cursor(meta.data, start, end)
    nbytes = 4 if cursor.take(2) & 1 else 2
    rows, columns = 1 + cursor.take(1), 1 + cursor.take(1)
    canvas = cursor.take(nbytes), cursor.take(nbytes)
    items = meta.list_parts(meta.primary)
    if len(items) != rows * columns or not all(canvas):
        raise malformed_error("HEIC or AVIF")
    meta.check_tiles(items)
    return canvas, columns, items


def _read_tile(meta: Meta, item: int, codec: bytes, matrix: Box | None) -> Tile:
    """Read a coded image; the tiles of a grid are not transformed, and without a matrix they have that of the grid."""
    properties = meta.list_properties(item)
    _check_essential(properties)
    boxes = [one.box for one in properties]
    configuration = next((box for box in boxes if box.kind == _CONFIGURATIONS[codec]), None)
    if configuration is None or (_TRANSFORMATIONS & {box.kind for box in boxes} and item != meta.primary):
        raise malformed_error("HEIC or AVIF")
    matrix = _find_matrix(meta, properties) or matrix
    needed = (*(box for box in boxes if box.kind in _DECODING), configuration, *([matrix] if matrix else []))
    samples, sample_bytes = _read_samples(configuration.read(meta.data), codec)
    extents = meta.list_extents(item)
    return Tile(_read_size(meta, properties), needed, extents, samples * sample_bytes, 1 if samples == 1 else 3)


def _read_samples(cursor: Cursor, codec: bytes) -> tuple[float, int]:
    """Return how many samples a pixel has in all planes, and the bytes of each.

    From the configuration of HEVC (ISO/IEC 14496-15, 8.3.2.1) or AV1 (AV1 in ISOBMFF, 2.3.3).
    """
    if codec == HEVC:
        cursor.skip(16)
        return _SAMPLES[cursor.take(1) & 3], 2 if cursor.take(1) & 7 else 1
    cursor.skip(2)
    flags = cursor.take(1)
    chroma = 0 if flags & 0x10 else {0: 3, 2: 2}.get(flags >> 2 & 3, 1)
    return _SAMPLES[chroma], 2 if flags & 0x40 else 1


def _find_matrix(meta: Meta, properties: Sequence[Property]) -> Box | None:
    """Return the property that says how the planes become RGB."""
    colours = (one.box for one in properties if one.box.kind == b"colr")
    return next((box for box in colours if meta.data[box.content : box.content + 4] == b"nclx"), None)


def _read_size(meta: Meta, properties: Sequence[Property]) -> Size:
    box = next((one.box for one in properties if one.box.kind == b"ispe"), None)
    if box is None:
        raise malformed_error("HEIC or AVIF")
    _, _, cursor = box.read_full(meta.data)
    size = cursor.take(4), cursor.take(4)
    if not all(size):
        raise malformed_error("HEIC or AVIF")
    return size


def _check_essential(properties: Sequence[Property]) -> None:
    known = {*_DECODING, *_TRANSFORMATIONS, *_WITHOUT_INFLUENCE, *_CONFIGURATIONS.values()}
    unknown = next((one.box.kind for one in properties if one.is_essential and one.box.kind not in known), None)
    if unknown is not None:
        name = unknown.decode("ascii", "replace")
        raise NotAnImage(
            f"The HEIC or AVIF image needs the property `{name}`, which is not supported: send it as JPEG or PNG"
        )


def _check_tiles(canvas: Size, columns: int, tiles: Sequence[Tile], nbytes: int) -> None:
    """Check that the tiles are of one size and cover the canvas with nothing to spare, and that they share no bytes."""
    width, height = tiles[0].size
    rows = len(tiles) // columns
    is_wide_enough = (columns - 1) * width < canvas[0] <= columns * width
    is_high_enough = (rows - 1) * height < canvas[1] <= rows * height
    if any(tile.size != tiles[0].size for tile in tiles) or not (is_wide_enough and is_high_enough):
        raise malformed_error("HEIC or AVIF")
    check_tile("HEIC or AVIF", tiles[0].size, canvas)
    if sum(end - start for tile in tiles for start, end in tile.extents) > nbytes:
        raise ImageTooCostly("The HEIC or AVIF image has tiles that share their data; save it anew")


def _read_transformations(
    meta: Meta, properties: Sequence[Property], canvas: Size
) -> tuple[tuple[int, int, int, int], int]:
    """Return the crop, and the orientation as an EXIF value; they apply in the order in which they are listed."""
    crop, turns, is_mirrored, is_turned = (0, 0, *canvas), 0, False, False
    for one in properties:
        cursor = one.box.read(meta.data)
        match one.box.kind:
            case b"clap" if is_turned:
                raise malformed_error("HEIC or AVIF")  # the order is fixed in MIAF (ISO/IEC 23000-22, 7.3.6.7)
            case b"clap":
                crop = _read_crop(cursor, canvas)
            case b"irot":
                turns, is_turned = turns + (cursor.take(1) & 3) * (-1 if is_mirrored else 1), True
            case b"imir":  # 0: top and bottom are exchanged, which is left and right and half a turn
                turns, is_mirrored, is_turned = turns + (0 if cursor.take(1) & 1 else 2), not is_mirrored, True
    return crop, _ORIENTATIONS[turns % 4, is_mirrored]


def _read_crop(cursor: Cursor, canvas: Size) -> tuple[int, int, int, int]:
    """Return the clean aperture in whole pixels (ISO/IEC 14496-12, 12.1.4.1)."""
    numbers = [cursor.take(4) for _ in range(8)]
    signed = [number - (1 << 32) if number >> 31 else number for number in numbers]
    if not all(signed[1::2]):
        raise malformed_error("HEIC or AVIF")
    width, height, x, y = (Fraction(signed[at], signed[at + 1]) for at in (0, 2, 4, 6))
    left, right = _crop_side(width, x, canvas[0])
    top, bottom = _crop_side(height, y, canvas[1])
    return left, top, right, bottom


def _crop_side(length: Fraction, offset: Fraction, whole: int) -> tuple[int, int]:
    start = max(0, floor(offset + Fraction(whole - 1, 2) - (length - 1) / 2))
    end = min(whole, start + floor(length))
    if end <= start:
        raise malformed_error("HEIC or AVIF")
    return start, end
