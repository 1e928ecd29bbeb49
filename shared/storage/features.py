"""The check that the object store has the features that the service relies on.

Some S3-compatible stores ignore a header that they do not know, and answer 200.
"""

from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from shared.errors import FeatureMissing, StorageUnavailable
from shared.storage.bucket import Bucket, NoSuchObject, ObjectChanged
from shared.storage.keys import STORE_CHECK_PREFIX

CONTENT = b"0123456789"
METADATA = {"request": '{"member": "value"}'}
_TYPE = "text/plain"


def check_features(bucket: Bucket) -> None:
    """Try each feature on objects of this call alone, which are deleted at its end.

    Raises:
        FeatureMissing: the object store lacks one.
        StorageUnavailable: it does not answer, or takes no object of these credentials.
        NoSuchObject: the bucket does not exist.
    """
    features: dict[str, Callable[[Bucket, str], bool]] = {
        "conditional puts (`If-None-Match: *`), by which a job ends once": _keeps_first,
        "metadata of objects (`x-amz-meta-*`), which has the request of each job": _returns_metadata,
        "reading a part of an object (`Range`)": _returns_range,
        "conditional reads (`If-Match`), by which an overwritten file is never served": _refuses_changed,
        "listings that show each object that was stored": _lists,
        "copies of objects inside it (`CopyObject`), which keep their metadata": _copies,
        "deleting several objects at once (`DeleteObjects`), or does not allow it": _deletes,
    }
    for feature, is_present in features.items():
        if not _succeeds(bucket, is_present):
            raise FeatureMissing(f"The object store lacks {feature}; use a store that has it.")


def _succeeds(bucket: Bucket, is_present: Callable[[Bucket, str], bool]) -> bool:
    """Try a feature twice, because a retry inside the client can look like a missing one.

    An error means a missing feature only if the store takes a plain put right after it, and not during an outage.
    """
    for _ in range(2):
        folder = f"{STORE_CHECK_PREFIX}{uuid4().hex}/"
        try:
            succeeded = is_present(bucket, folder)
        except (StorageUnavailable, NoSuchObject):
            _put(bucket, f"{folder}plain")
            succeeded = False
        with suppress(StorageUnavailable):
            bucket.delete([f"{folder}{name}" for name in ("first", "second", "plain")])
        if succeeded:
            return True
    return False


def _put(bucket: Bucket, key: str) -> None:
    bucket.put(key, CONTENT, content_type=_TYPE, metadata=METADATA)


def _keeps_first(bucket: Bucket, folder: str) -> bool:
    first, second = (bucket.put_first(f"{folder}first", CONTENT, content_type=_TYPE) for _ in range(2))
    return first and not second


def _returns_metadata(bucket: Bucket, folder: str) -> bool:
    _put(bucket, f"{folder}first")
    return bucket.get_metadata(f"{folder}first").get("request") == METADATA["request"]


def _returns_range(bucket: Bucket, folder: str) -> bool:
    _put(bucket, f"{folder}first")
    return bucket.get_range(f"{folder}first", offset=3, length=4) == CONTENT[3:7]


def _refuses_changed(bucket: Bucket, folder: str) -> bool:
    key = f"{folder}first"
    etag = bucket.put(key, CONTENT, content_type=_TYPE)
    if not etag or bucket.get(key, etag) != CONTENT:
        return False
    bucket.put(key, CONTENT[::-1], content_type=_TYPE)
    return _is_refused(lambda: bucket.get(key, etag)) and _is_refused(
        lambda: bucket.get_range(key, offset=3, length=4, etag=etag)
    )


def _is_refused(read: Callable[[], object]) -> bool:
    try:
        read()
    except ObjectChanged:
        return True
    return False


def _lists(bucket: Bucket, folder: str) -> bool:
    _put(bucket, f"{folder}first")
    return [found.key for found in bucket.list_objects(folder)] == [f"{folder}first"]


def _copies(bucket: Bucket, folder: str) -> bool:
    _put(bucket, f"{folder}first")
    bucket.copy(f"{folder}first", f"{folder}second")
    copied = bucket.get_metadata(f"{folder}second").get("request")
    return bucket.get(f"{folder}second") == CONTENT and copied == METADATA["request"]


def _deletes(bucket: Bucket, folder: str) -> bool:
    keys = [f"{folder}first", f"{folder}second"]
    for key in keys:
        _put(bucket, key)
    bucket.delete(keys)
    return bucket.is_empty(folder)
