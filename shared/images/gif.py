"""The blocks of a GIF, and which of them a decoder is to see: those of the first frame, without comments."""

from shared.images.spliced_file import splice
from shared.images.structure import Structure, excess_error, malformed_error

MAX_PIXEL_BLOCKS = 300_000  # of at most 255 bytes
MAX_OTHER_BLOCKS = 10_000
_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL, _CONTROL_BYTES = 0xF9, 4  # an extension with the transparent colour


def read_gif(data: bytes) -> Structure:
    """Read the blocks to the end of the first frame; the others are not used.

    Raises:
        IndexError: the file stops before its end.
        NotAnImage: there is no frame.
        ImageTooCostly: there are too many blocks.
    """
    view = memoryview(data)
    position = head = 13 + _count_palette_bytes(data[10])
    control = view[:0]
    others = 0
    while others <= MAX_OTHER_BLOCKS:
        introducer = data[position]
        if introducer == _IMAGE:
            end = _find_frame_end(data, position)
            return Structure(source=splice([view[:head], control, view[position:end], memoryview(bytes([_END]))]))
        if introducer == _END:
            raise malformed_error("GIF")
        if introducer == _EXTENSION:
            start = position
            position, blocks = _skip_blocks(data, start + 2, MAX_OTHER_BLOCKS)
            if data[start + 1] == _CONTROL and data[start + 2] >= _CONTROL_BYTES:
                control = view[start:position]
            others += blocks
        else:
            position += 1
        others += 1
    raise excess_error("GIF", MAX_OTHER_BLOCKS, "blocks besides its pixels")


def _find_frame_end(data: bytes, start: int) -> int:
    pixels = start + 10 + _count_palette_bytes(data[start + 9]) + 1
    return _skip_blocks(data, pixels, MAX_PIXEL_BLOCKS)[0]


def _count_palette_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(data: bytes, position: int, max_blocks: int) -> tuple[int, int]:
    """Return the position behind a chain of sub-blocks, and their number."""
    for blocks in range(max_blocks):
        length = data[position]
        position += 1 + length
        if length == 0:
            return position, blocks
    raise excess_error("GIF", max_blocks, "blocks in a chain")
