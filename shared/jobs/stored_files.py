"""Reading a stored file, and nothing that was stored in its place later.

A PUT of an attempt that has lost its lease can land at any time.  So a file is asked for by the ETag that its result
names; if that has changed, the content decides, because a bucket that was copied has other ETags.
"""

from contextlib import suppress
from hashlib import sha256

import structlog

from shared.errors import ResultOverwritten
from shared.jobs.result import ByteRange, StoredFile
from shared.storage.bucket import Bucket, ObjectChanged

log = structlog.get_logger()


def read_stored(key: str, stored: StoredFile | None, *, bucket: Bucket, part: ByteRange | None = None) -> bytes:
    """Return the content of a stored file, or a part of it.

    Args:
        stored: as it was recorded; None if it was not, and then nothing is checked.

    Raises:
        NoSuchObject: it is not stored any more.
        ResultOverwritten: another file is stored in its place.
        StorageUnavailable: the bucket does not answer.
    """
    etag = stored.etag if stored else None
    with suppress(ObjectChanged):
        if part is None:
            return bucket.get(key, etag)
        return bucket.get_range(key, offset=part.offset, length=part.length, etag=etag)
    content = bucket.get(key)
    if stored is None or sha256(content).hexdigest() != stored.sha256:
        log.error("result_overwritten", key=key)
        raise ResultOverwritten(
            f"Another file was stored in the place of {key.rpartition('/')[2]} of this job, so it is not served; "
            "submit the image again."
        )
    return content if part is None else content[part.offset : part.offset + part.length]
