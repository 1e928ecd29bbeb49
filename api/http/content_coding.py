"""Content codings of request bodies (RFC 9110, section 8.4): which are accepted, and decompression within limits.

No Flask here.  Decision 31 says why these codings, and why the limits.
"""

import time
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO

from shared.errors import BodyTooLarge, UnreadableBody, UnsupportedCoding, UploadsFull

GZIP, DEFLATE, IDENTITY = "gzip", "deflate", "identity"
CODINGS = (GZIP, DEFLATE, IDENTITY)
_ALIASES = {"x-gzip": GZIP}  # RFC 9110, section 8.4.1.3

# The input is given to zlib in pieces, because it copies what it has not consumed; the output is taken in chunks.
_PIECE_BYTES = 1 << 16
CHUNK_BYTES = 1 << 18
# A tool that compresses blocks in parallel makes a member for each 64 KiB.
MAX_GZIP_MEMBERS = 1000
# 32 MB of any encoder take less than 0.3 s of CPU time; as many bytes of blocks without content take 3 s.
MAX_CPU_SECONDS = 1.0

_GZIP_SIGNATURE = b"\x1f\x8b"
_GZIP_WINDOW_BITS = zlib.MAX_WBITS + 16


def parse_coding(header: str) -> str:
    """Return the coding that a Content-Encoding header names: one of CODINGS.

    Raises:
        UnsupportedCoding: it names another one, or more than one.
    """
    names = [name.strip().lower() for name in header.split(",")]
    codings = [_ALIASES.get(name, name) for name in names if name not in ("", IDENTITY)]
    if not codings:
        return IDENTITY
    if codings[0] not in CODINGS:
        raise UnsupportedCoding(
            f"The Content-Encoding {codings[0][:40]!r} is not accepted; send gzip or deflate, or the body as it is",
            codings=CODINGS,
        )
    if len(codings) > 1:
        raise UnsupportedCoding(
            f"The body has {len(codings)} content codings, one on top of the other; send it with one at most",
            codings=CODINGS,
        )
    return codings[0]


def decompress(body: bytes, coding: str, *, max_bytes: int, reserve: Callable[[int], bool]) -> bytes:
    """Return a body without its coding, GZIP or DEFLATE.

    Args:
        max_bytes: what the result may have; memory never holds more than that and a chunk.
        reserve: asks for room for so many bytes more, before they are kept; False if there is none.

    Raises:
        UnreadableBody: it is not compressed so, is damaged, stops before its end or goes on behind it; or it takes
            more CPU time or has more parts than compressors make.
        BodyTooLarge: the result is larger.
        UploadsFull: there is no room.
    """
    content = BytesIO()
    deadline = time.thread_time() + MAX_CPU_SECONDS
    for chunk in _inflate(body, coding):
        if content.tell() + len(chunk) > max_bytes:
            raise BodyTooLarge(f"Decompressed, the request body has more than the {max_bytes} bytes that are accepted.")
        if not reserve(len(chunk)):
            raise UploadsFull()
        content.write(chunk)
        if time.thread_time() > deadline:
            raise UnreadableBody(
                f"The {coding} body takes more time to decompress than any that a compressor makes; send it as it is"
            )
    return content.getvalue()


def _inflate(body: bytes, coding: str) -> Iterator[bytes]:
    """Yield the content by chunks of CHUNK_BYTES at most; some are empty.

    Raises:
        UnreadableBody: the body is not of this coding.
    """
    try:
        yield from _inflate_members(body, _choose_window_bits(body, coding), MAX_GZIP_MEMBERS if coding == GZIP else 1)
    except zlib.error as error:
        raise UnreadableBody(f"The body is damaged: it does not decompress as {coding} to its end") from error


def _inflate_members(body: bytes, window_bits: int, max_members: int) -> Iterator[bytes]:
    stream, members = zlib.decompressobj(window_bits), 1
    for start in range(0, len(body), _PIECE_BYTES):
        piece: bytes | memoryview = memoryview(body)[start : start + _PIECE_BYTES]
        while piece:
            if stream.eof:
                members += 1
                _check_member(bytes(piece[: len(_GZIP_SIGNATURE)]), members, max_members)
                stream = zlib.decompressobj(window_bits)
            yield stream.decompress(piece, CHUNK_BYTES)
            piece = stream.unused_data if stream.eof else stream.unconsumed_tail
    # zlib may hold output for which there was no room in the last chunk.
    while chunk := stream.decompress(b"", CHUNK_BYTES):
        yield chunk
    if not stream.eof:
        raise UnreadableBody("The compressed body stops before its end: the upload was cut short")


def _check_member(beginning: bytes, number: int, max_members: int) -> None:
    """Check what follows the end of a compressed stream: only gzip may go on, with a further member.

    Raises:
        UnreadableBody: it is no member, or one too many.
    """
    if max_members == 1 or not _GZIP_SIGNATURE.startswith(beginning):
        raise UnreadableBody("Bytes follow the end of the compressed body; send nothing behind it")
    if number > max_members:
        raise UnreadableBody(f"The body has more than {max_members} gzip members; compress it as one")


def _choose_window_bits(body: bytes, coding: str) -> int:
    """Return the parameter of zlib that names the format.

    Raises:
        UnreadableBody: the coding is gzip, but the body is not.
    """
    if coding == DEFLATE:
        # The coding is the zlib format; some clients send the bare stream, which never begins like its header.
        return zlib.MAX_WBITS if _has_zlib_header(body) else -zlib.MAX_WBITS
    if not body.startswith(_GZIP_SIGNATURE):
        raise UnreadableBody(
            "The Content-Encoding is gzip, but the body is not compressed with it; leave the header out"
        )
    return _GZIP_WINDOW_BITS


def _has_zlib_header(body: bytes) -> bool:
    """Check the method and the check bits of RFC 1950, section 2.2."""
    return len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2], "big") % 31 == 0
