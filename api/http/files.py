"""Responses with a file: strong ETag, If-None-Match, HEAD, and a range of bytes (RFC 9110, sections 8.8, 13 and 14)."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from flask import Request, Response
from werkzeug.datastructures import ETags
from werkzeug.http import parse_etags, unquote_etag

from shared.jobs.result import ByteRange

# What api/http/compression.py adds to the ETag of a response that it compresses.
GZIP_SUFFIX = "-gzip"


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file, before it is read.

    size: in bytes.
    etag: of its content, without quotes.
    read: returns the content, or a part of it.
    """

    size: int
    etag: str
    media_type: str
    read: Callable[[ByteRange | None], bytes]


def build_file_response(file: FileContent, request: Request) -> Response:
    """Return the response to a GET or a HEAD; the file is read only if its bytes are sent.

    One range is answered with 206, and one behind the end with 416; several, and any other unit, with the whole file.
    """
    if _is_known(file, request):
        return _finish(Response(status=HTTPStatus.NOT_MODIFIED), file)
    if request.method == "HEAD":
        response = Response(content_type=file.media_type)
        response.content_length = file.size
        return _finish(response, file)
    part = _select_part(file, request)
    if part is None:
        return _finish(Response(file.read(None), content_type=file.media_type), file)
    if not part.length:
        response = Response(status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        response.headers["Content-Range"] = f"bytes */{file.size}"
        return _finish(response, file)
    response = Response(file.read(part), HTTPStatus.PARTIAL_CONTENT, content_type=file.media_type)
    response.headers["Content-Range"] = f"bytes {part.offset}-{part.offset + part.length - 1}/{file.size}"
    return _finish(response, file)


def _finish(response: Response, file: FileContent) -> Response:
    response.set_etag(file.etag)
    response.headers["Accept-Ranges"] = "bytes"
    return response


def _is_known(file: FileContent, request: Request) -> bool:
    """Return whether the client has this file; it may have it compressed."""
    known: ETags = parse_etags(request.headers.get("If-None-Match"))
    return any(known.contains_weak(etag) for etag in (file.etag, file.etag + GZIP_SUFFIX))


def _select_part(file: FileContent, request: Request) -> ByteRange | None:
    """Return the one range that is asked for, of no length if it is behind the end; None: the whole file."""
    wanted = request.range
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1 or not _is_range_valid(file, request):
        return None
    # The library takes the last bytes of a file with fewer for a range behind its end; they are all of them.
    if file.size and wanted.ranges[0][0] < -file.size:
        return ByteRange(0, file.size)
    found = wanted.range_for_length(file.size)
    if found is None:
        return ByteRange(0, 0)
    return ByteRange(found[0], found[1] - found[0])


def _is_range_valid(file: FileContent, request: Request) -> bool:
    """Return whether a range is of the file that the client has a part of; a date is never of it."""
    condition = request.headers.get("If-Range")
    if condition is None:
        return True
    etag, is_weak = unquote_etag(condition)
    return etag == file.etag and not is_weak and condition.strip().startswith('"')
