"""The head of a request: where it ends in the bytes received, and its one parser, gunicorn's.

The framing of the body is read from what that parser returns, so nothing here can disagree with it.
"""

import re
from typing import Any

from gunicorn.http.body import ChunkedReader  # type: ignore[import-untyped]
from gunicorn.http.errors import LimitRequestHeaders, NoMoreData  # type: ignore[import-untyped]
from gunicorn.http.message import Request  # type: ignore[import-untyped]
from gunicorn.http.unreader import IterUnreader  # type: ignore[import-untyped]

MAX_HEAD_BYTES = 64 * 1024
_END = b"\r\n\r\n"
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")


def find_end(received: bytearray, searched: int) -> int:
    """Return the length of the head at the beginning of `received`, or -1 if it is not complete.

    Args:
        searched: bytes that an earlier call has searched.
    """
    found = received.find(_END, max(0, searched - len(_END) + 1))
    return found + len(_END) if found >= 0 else -1


def is_refusable(received: bytearray, searched: int, max_line_bytes: int) -> bool:
    """Return whether an incomplete head is too long already, or has a line end that no head may have."""
    if len(received) > MAX_HEAD_BYTES or _BARE_LINE_FEED.search(received, max(0, searched - 1)):
        return True
    return len(received) > max_line_bytes + 2 and received.find(b"\r\n", 2, max_line_bytes + 4) < 0


def parse_head(head: bytes, cfg: Any, address: object, number: int) -> Any:
    """Parse a head, or an incomplete one to get its error.

    Args:
        cfg: gunicorn's settings, with the limits of lines and fields.
        number: of the request on its connection, from 1.

    Raises:
        gunicorn.http.errors.ParseException: it is malformed or too long.
    """
    try:
        request = Request(cfg, IterUnreader([head]), address, number)
    except (NoMoreData, StopIteration) as error:
        raise LimitRequestHeaders("the head is too long") from error
    if len(head) > MAX_HEAD_BYTES:
        raise LimitRequestHeaders("the head is too long")
    return request


def get_body_length(request: Any) -> int | None:
    """Return the bytes of the body that follows, or None if it is chunked."""
    reader = request.body.reader
    return None if isinstance(reader, ChunkedReader) else int(reader.length)


def get_last_value(request: Any, name: str) -> str:
    """Return the last line of a header, which the proxy in front has added, or nothing; `name` is in upper case."""
    return next((value for known, value in reversed(request.headers) if known == name), "")


def get_header(request: Any, name: str) -> str | None:
    """Return the first value of a header; `name` is in upper case."""
    return next((value for known, value in request.headers if known == name), None)
