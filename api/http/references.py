"""Images that a body names: a URL, `s3://bucket/key`, or the id of an upload.  Nothing is looked up here."""

import re
from collections.abc import Iterable
from typing import Final

from api.jobs.references import BucketReference, InputReference, UploadReference, UrlReference
from api.quoting import quote
from shared.errors import BadParameter, ForbiddenInput
from shared.setting_types import check_bucket

# Of JSON, and fields of a form; others than those of an image itself.
REFERENCE_MEMBERS: Final = ("image_url", "upload_id")
_UPLOAD_ID: Final = "upload_id"
_IMAGE_MEMBERS: Final = ("inputs", "image", "file")
_MAX_KEY_BYTES: Final = 1024  # of S3
_DOTS: Final = frozenset({".", ".."})
_MAX_UPLOAD_ID_CHARS: Final = 64
# Not that of a data URL, which has no slashes.
_SCHEME: Final = re.compile(r"\s{0,8}[A-Za-z][A-Za-z0-9+.-]{0,30}://")


def find_reference(members: Iterable[tuple[str, object]]) -> InputReference | None:
    """Return what a body names as its image, or None if it names nothing.

    Args:
        members: of a JSON object, or fields of a form; others than those of images may be among them.

    Raises:
        BadParameter: the image is given twice, or what names it is no string.
        ForbiddenInput: an `s3://` address without a bucket or a key, or with a key that leads out of the bucket.
    """
    given = [(name, value) for name, value in members if _is_input(name) and value is not None]
    found = [(name, value) for name, value in given if name in REFERENCE_MEMBERS or _is_url(value)]
    if not found:
        return None
    if len(given) > 1:
        names = " and ".join(f"as `{one}`" for one, _ in given[:2])
        raise BadParameter(f"The image is given twice, {names}; give it once.")
    return _read_reference(*found[0])


def _read_reference(name: str, value: object) -> InputReference:
    if not isinstance(value, str) or not value.strip():
        raise BadParameter(f"`{name}` must be a text, not {quote(value)}")
    text = value.strip()
    if name == _UPLOAD_ID:
        return UploadReference(text[: _MAX_UPLOAD_ID_CHARS + 1])
    return _read_object(text) if text[:5].lower() == "s3://" else UrlReference(text)


def _is_input(name: str) -> bool:
    return name in REFERENCE_MEMBERS or name in _IMAGE_MEMBERS


def _is_url(value: object) -> bool:
    return isinstance(value, str) and _SCHEME.match(value) is not None


def _read_object(text: str) -> BucketReference:
    bucket, _, key = text[len("s3://") :].partition("/")
    try:
        check_bucket(bucket)
    except ValueError:
        raise ForbiddenInput("The address names no bucket; write it as in s3://bucket/key.") from None
    if not key or not key.isprintable() or len(key.encode("utf-8", "replace")) > _MAX_KEY_BYTES:
        raise ForbiddenInput(
            f"The address names no object; write it as in s3://bucket/key, the key with {_MAX_KEY_BYTES} bytes at most."
        )
    # Stores that keep objects as files may resolve them, and leave the bucket.
    if not _DOTS.isdisjoint(key.split("/")):
        raise ForbiddenInput("The key of the object has a part that is `.` or `..`; such objects are not read.")
    return BucketReference(bucket, key)
