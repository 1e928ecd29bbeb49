"""Decoding of HEIC and AVIF, one tile at a time.

libheif and libavif get no file of a client.  They get a file of one coded image, which is written here: the tile's data
and the properties that say how it is coded.  So what is in a client's file reaches the codecs alone, and only one tile
is in memory beside the image.
"""

import struct
from collections.abc import Callable, Mapping

from pi_heif import options
from pi_heif.heif import open_heif
from PIL import _avif
from PIL.Image import Image, frombuffer, new

from shared.images.heif import AV1, HEVC, HeifImage, Tile
from shared.images.heif_file import HeifImageFile

_BRANDS = {HEVC: b"heic", AV1: b"avif"}
_THREADS = 1  # the memory and CPU time of a process are limited, and threads take stacks
_HANDLER = b"pict"


def load_heif(image: HeifImageFile) -> Image:
    """Return the pixels that are shown, as RGB and not turned upright, and close the file.

    Raises:
        Exception: of any type: the data of a tile is damaged.
    """
    header, data = image.header, memoryview(image.data)
    if len(header.tiles) == 1 and header.tiles[0].size == header.canvas:
        canvas = _decode_tile(data, header.codec, header.tiles[0])
    else:
        canvas = new("RGB", header.canvas)
        for number, tile in enumerate(header.tiles):
            with _decode_tile(data, header.codec, tile) as pixels:
                canvas.paste(pixels, _place(header, number))
    image.close()
    return canvas if canvas.size == header.size else canvas.crop(header.crop)


def _place(header: HeifImage, number: int) -> tuple[int, int]:
    """Return (left, top) of a tile."""
    row, column = divmod(number, header.columns)
    width, height = header.tiles[0].size
    return column * width, row * height


def _decode_tile(data: memoryview, codec: bytes, tile: Tile) -> Image:
    pixels = _DECODERS[codec](build_file(data, codec, tile))
    if pixels.size != tile.size:
        raise ValueError("the size of a tile is not that of its header")
    return pixels if pixels.mode == "RGB" else pixels.convert("RGB")


def _decode_hevc(file: bytes) -> Image:
    options.DECODE_THREADS = _THREADS
    [image] = open_heif(file, convert_hdr_to_8bit=True, remove_stride=False)
    return frombuffer(image.mode, image.size, image.data, "raw", image.mode, image.stride, 1)


def _decode_av1(file: bytes) -> Image:
    decoder = _avif.AvifDecoder(file, "dav1d", _THREADS)
    size, _, mode, *_ = decoder.get_info()
    pixels, *_ = decoder.get_frame(0)
    return frombuffer(mode, size, pixels, "raw", mode, 0, 1)


_DECODERS: Mapping[bytes, Callable[[bytes], Image]] = {HEVC: _decode_hevc, AV1: _decode_av1}


def build_file(data: memoryview, codec: bytes, tile: Tile) -> bytes:
    """Return a HEIF file (ISO/IEC 23008-12) of one coded image, without anything else of the file that it is from."""
    brand = _BRANDS[codec]
    properties = [data[box.start : box.end] for box in tile.properties]
    coded = [data[start:end] for start, end in tile.extents]
    length = sum(map(len, coded))
    essential = bytes(0x80 | number for number in range(1, len(properties) + 1))
    before = _box(b"ftyp", brand, bytes(4), brand, b"mif1", b"miaf")
    meta = _build_meta(codec, properties, essential, offset=0, length=length)
    offset = len(before) + len(meta) + 8
    meta = _build_meta(codec, properties, essential, offset=offset, length=length)
    return b"".join((before, meta, struct.pack(">I", 8 + length), b"mdat", *coded))


def _build_meta(codec: bytes, properties: list[memoryview], essential: bytes, *, offset: int, length: int) -> bytes:
    return _full_box(
        b"meta",
        _full_box(b"hdlr", bytes(4), _HANDLER, bytes(13)),
        _full_box(b"pitm", struct.pack(">H", 1)),
        _full_box(b"iloc", struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, offset, length)),
        _full_box(b"iinf", struct.pack(">H", 1), _box(b"infe", b"\2\0\0\0", struct.pack(">HH", 1, 0), codec, b"\0")),
        _box(
            b"iprp",
            _box(b"ipco", *properties),
            _full_box(b"ipma", struct.pack(">IHB", 1, 1, len(properties)), essential),
        ),
    )


def _box(kind: bytes, *content: bytes | memoryview) -> bytes:
    return struct.pack(">I", 8 + sum(map(len, content))) + kind + b"".join(content)


def _full_box(kind: bytes, *content: bytes | memoryview) -> bytes:
    return _box(kind, bytes(4), *content)
