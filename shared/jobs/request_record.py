"""The request of a job in the bucket, with its input, so that it outlives Redis.

It is the metadata of the input.  S3 allows 2 KB there, so a larger request is an object of its own, and the
metadata say so.  It is stored before the input and deleted with it: while the input is in the inbox, its request can be
read.
"""

from collections.abc import Mapping
from typing import Final

from shared.jobs.model import JobRequest
from shared.storage.bucket import Bucket
from shared.storage.keys import inbox_key, request_key

_METADATA: Final = "request"
# In place of the request, which is JSON.
_APART: Final = "apart"
# Of the request in the metadata; S3 counts their names too, and allows 2,048 bytes.
MAX_METADATA_BYTES: Final = 1900
# Of an image whose format is not known yet.
UNKNOWN_TYPE: Final = "application/octet-stream"


def store_input(request: JobRequest, image: bytes, *, bucket: Bucket) -> None:
    """Store the image of a job in the inbox, with the request.

    Raises:
        StorageUnavailable: the bucket did not answer; parts may be stored.
    """
    content_type = f"image/{request.image.format}" if request.image else UNKNOWN_TYPE
    metadata = store_request(request, bucket=bucket)
    bucket.put(inbox_key(request.id), image, content_type=content_type, metadata=metadata)


def store_request(request: JobRequest, *, bucket: Bucket) -> Mapping[str, str]:
    """Return the metadata of a job's input; a request that is too large for them is stored first.

    Raises:
        StorageUnavailable: the bucket did not answer.
    """
    text = request.to_json()
    if len(text) <= MAX_METADATA_BYTES:
        return {_METADATA: text}
    bucket.put(request_key(request.id), text.encode(), content_type="application/json")
    return {_METADATA: _APART}


def read_request(job_id: str, *, bucket: Bucket) -> JobRequest:
    """Return the request of a job whose input is in the inbox.

    Raises:
        NoSuchObject: the input or its request is not stored any more.
        KeyError: the object in the inbox has no request.
        ValueError: the request is not one of this version.
    """
    return JobRequest.from_json(read_request_text(job_id, bucket=bucket))


def read_request_text(job_id: str, *, bucket: Bucket) -> str | bytes:
    """Return the request of a job whose input is in the inbox as it is stored; raises as read_request()."""
    text = bucket.get_metadata(inbox_key(job_id))[_METADATA]
    return bucket.get(request_key(job_id)) if text == _APART else text


def list_inbox_keys(job_id: str) -> tuple[str, str]:
    """Return the keys of the input of a job and of its request, which are deleted together."""
    return inbox_key(job_id), request_key(job_id)
