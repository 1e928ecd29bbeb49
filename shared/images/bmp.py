"""The run-length data of a BMP."""

import struct

from shared.errors import ImageTooCostly
from shared.images.structure import Structure

# Each two bytes are a mark that is decoded one by one.
MAX_RUN_LENGTH_BYTES = 8_000_000
_RUN_LENGTH = frozenset({1, 2})  # compression: of 8 and of 4 bits
_OS2_HEADER_BYTES = 12  # it has no compression


def read_bmp(data: bytes) -> Structure:
    """Check the length of run-length data.

    Raises:
        struct.error: the file stops in its header.
        ImageTooCostly: there is too much of it.
    """
    start, header_bytes = struct.unpack_from("<I", data, 10)[0], struct.unpack_from("<I", data, 14)[0]
    if header_bytes <= _OS2_HEADER_BYTES:
        return Structure()
    (compression,) = struct.unpack_from("<I", data, 30)
    if compression in _RUN_LENGTH and len(data) - start > MAX_RUN_LENGTH_BYTES:
        raise ImageTooCostly(
            f"The BMP image has more than {MAX_RUN_LENGTH_BYTES} bytes of run-length data; save it as PNG"
        )
    return Structure()
