"""Gzip for JSON responses.  Its size limits and level are chosen for masks; decision 10 says why it is no library."""

import gzip
from http import HTTPStatus

from flask import Response, request

from api.http.files import GZIP_SUFFIX

MIN_GZIP_BYTES = 1000


def compress(response: Response) -> None:
    """Compress a JSON response in place if the client accepts gzip and the response is long enough."""
    if not _is_compressible(response):
        return
    # The PNG masks are compressed already, only their base64 is not: a higher level saves next to nothing.
    response.set_data(gzip.compress(response.get_data(), compresslevel=1))
    response.content_encoding = "gzip"
    etag, is_weak = response.get_etag()
    if etag and not is_weak:
        # A strong ETag names bytes, and these are others.
        response.set_etag(etag + GZIP_SUFFIX)
    response.vary.add("Accept-Encoding")


def _is_compressible(response: Response) -> bool:
    return (
        response.mimetype == "application/json"
        and response.status_code != HTTPStatus.PARTIAL_CONTENT
        and not response.is_streamed
        and response.content_encoding is None
        and (response.content_length or 0) > MIN_GZIP_BYTES
        and request.accept_encodings["gzip"] > 0
    )
