"""Reading a file of a result, and nothing that was stored in its place later.

A PUT of an attempt that has lost its lease can land at any time.  So a file is asked for by the ETag that its result
names; if that has changed, the content decides, because a bucket that was copied has other ETags.
"""

from contextlib import suppress
from hashlib import sha256

import structlog

from shared.errors import Gone, ResultOverwritten, UnknownJob
from shared.formats.registry import Format
from shared.jobs.result import ByteRange, JobResult, StoredFile
from shared.storage.bucket import Bucket, NoSuchObject, ObjectChanged
from shared.storage.keys import object_key

log = structlog.get_logger()


def read_file(result: JobResult, wanted: Format, *, bucket: Bucket, part: ByteRange | None = None) -> bytes:
    """Return the file of a format, or a part of it.

    Raises:
        UnknownJob: the job was submitted without this format.
        Gone: the file is not stored any more.
        ResultOverwritten: another file is stored in its place.
        StorageUnavailable: the bucket does not answer.
    """
    check_requested(result, wanted)
    key = object_key(result.request.id, result.attempt_name, wanted.file)
    stored = result.objects.get(wanted.name)
    etag = stored.etag if stored else None
    try:
        with suppress(ObjectChanged):
            return _read_by_etag(key, etag, part, bucket)
        content = bucket.get(key)
    except NoSuchObject as error:
        raise Gone(f"{wanted.file} of job {result.request.id} is not stored any more.") from error
    _check_content(content, stored, result, wanted)
    return content if part is None else content[part.offset : part.offset + part.length]


def _read_by_etag(key: str, etag: str | None, part: ByteRange | None, bucket: Bucket) -> bytes:
    if part is None:
        return bucket.get(key, etag)
    return bucket.get_range(key, offset=part.offset, length=part.length, etag=etag)


def _check_content(content: bytes, stored: StoredFile | None, result: JobResult, wanted: Format) -> None:
    if stored is not None and sha256(content).hexdigest() == stored.sha256:
        return
    log.error("result_overwritten", job_id=result.request.id, file=wanted.file)
    raise ResultOverwritten(
        f"Another file was stored in the place of {wanted.file} of job {result.request.id}, so it is not served; "
        "submit the image again."
    )


def check_requested(result: JobResult, wanted: Format) -> None:
    """Raise UnknownJob if the job was submitted without a format."""
    if wanted.name not in result.request.formats:
        raise UnknownJob(
            f"The job has no {wanted.file}: it was submitted with formats={','.join(result.request.formats)}. "
            f"Submit the image again with formats={wanted.name}."
        )
