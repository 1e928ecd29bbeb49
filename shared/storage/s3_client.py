"""What the small client of bucket.py does not do: copies with other metadata, from other buckets, and signed forms.

boto3 takes a moment and memory to load its model of S3, so it is loaded at the first call.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.storage.bucket import NoSuchObject, ObjectChanged

_MISSING = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound"})
_FORBIDDEN = frozenset({"403", "AccessDenied"})
_CHANGED = frozenset({"412", "PreconditionFailed"})


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class SignedForm:
    """A form that stores one file: a client sends it by POST, its fields first and the file last, named `file`."""

    url: str
    fields: Mapping[str, str]


class S3Client:
    """Thread-safe; connects at the first call.  Keys in the bucket of the settings are given without its prefix."""

    def __init__(self, build: Callable[[], Any], bucket: str, prefix: str) -> None:
        self._build = build
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._lock = threading.Lock()
        self._client: Any = None

    def find(self, key: str, bucket: str = "") -> ObjectFacts:
        """Return the facts of an object of the bucket of the settings, or of another one, with its whole key.

        Raises:
            NoSuchObject: there is none, or it may not be read.
            StorageUnavailable: the object store did not answer.
        """
        with _client_errors():
            found = self._get_client().head_object(**self._locate(key, bucket))
        return ObjectFacts(found["ContentLength"], found["ETag"])

    def copy(
        self, key: str, target: str, *, etag: str, content_type: str, metadata: Mapping[str, str], bucket: str = ""
    ) -> None:
        """Copy an object, inside the object store, to a key of the bucket of the settings, with other metadata.

        Raises:
            NoSuchObject, StorageUnavailable: as from find().
            ObjectChanged: its ETag is another one now.
        """
        with _client_errors():
            self._get_client().copy_object(
                **self._locate(target, ""),
                CopySource=self._locate(key, bucket),
                CopySourceIfMatch=etag,
                MetadataDirective="REPLACE",
                Metadata=dict(metadata),
                ContentType=content_type,
            )

    def sign_form(self, key: str, *, max_bytes: int, content_type: str, seconds: int) -> SignedForm:
        """Return a form with which anybody may store one file of 1 to `max_bytes` bytes and of this type.

        Raises:
            StorageUnavailable: there are no credentials to sign with.
        """
        place = self._locate(key, "")
        with _client_errors():
            signed = self._get_client().generate_presigned_post(
                place["Bucket"],
                place["Key"],
                Fields={"Content-Type": content_type},
                Conditions=[["content-length-range", 1, max_bytes], {"Content-Type": content_type}],
                ExpiresIn=seconds,
            )
        return SignedForm(signed["url"], signed["fields"])

    def _locate(self, key: str, bucket: str) -> dict[str, str]:
        return {"Bucket": bucket, "Key": key} if bucket else {"Bucket": self._bucket, "Key": f"{self._prefix}{key}"}

    def _get_client(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._build()
            return self._client


def open_s3_client(settings: Settings, endpoint: str = "") -> S3Client:
    """Return a client of the object store of the settings, or of the same one under another URL."""

    def build() -> Any:
        seconds, proxy = settings.storage_timeout_seconds, settings.storage_proxy
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint or settings.storage_endpoint or None,
            region_name=settings.storage_region,
            aws_access_key_id=settings.storage_access_key or None,
            aws_secret_access_key=settings.storage_secret_key.get_secret_value() or None,
            config=Config(
                signature_version="s3v4",
                connect_timeout=seconds,
                read_timeout=4 * seconds,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path" if endpoint or settings.storage_endpoint else "auto"},
                # Without them it would look for `http_proxy`.
                proxies={"http": proxy, "https": proxy} if proxy else {},
            ),
        )

    return S3Client(build, settings.storage_bucket, settings.storage_prefix)


@contextmanager
def _client_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _MISSING | _FORBIDDEN:
            raise NoSuchObject("there is no such object") from error
        if code in _CHANGED:
            raise ObjectChanged("the object was replaced meanwhile") from error
        raise StorageUnavailable("The object store does not answer; try again in a few seconds.") from error
    except (BotoCoreError, OSError) as error:
        raise StorageUnavailable("The object store does not answer; try again in a few seconds.") from error
