"""The bucket: inputs, results and nothing that must be fast.  Any S3-compatible server will do."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header

from shared.errors import MaskmillError, StorageUnavailable
from shared.settings import Settings

MISSING = {"404", "NoSuchKey", "NotFound"}
TAKEN = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}


class NoSuchObject(MaskmillError):
    """Nothing is stored under this key; the caller knows what that means for the job."""

    code = "no_such_object"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An entry of a listing; `modified_at` is unix seconds."""

    key: str
    modified_at: float


class Bucket:
    """Thread-safe.  Every method may raise StorageUnavailable."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def put(self, key: str, content: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None) -> None:
        with storage_errors():
            self._client.put_object(
                Bucket=self.name, Key=key, Body=content, ContentType=content_type, Metadata=dict(metadata or {})
            )

    def put_first(self, key: str, content: bytes, *, content_type: str) -> bool:
        """Store content under key unless something is there already; say whether it was stored."""
        try:
            with storage_errors():
                self._client.put_object(
                    Bucket=self.name, Key=key, Body=content, ContentType=content_type, IfNoneMatch="*"
                )
        except _Taken:
            return False
        return True

    def get(self, key: str) -> bytes:
        """Return what is stored under key.

        Raises:
            NoSuchObject: nothing is.
        """
        return self._read(Bucket=self.name, Key=key)

    def get_range(self, key: str, *, offset: int, length: int) -> bytes:
        """Return `length` bytes of an object.

        Raises:
            NoSuchObject: nothing is stored under key.
        """
        return self._read(Bucket=self.name, Key=key, Range=f"bytes={offset}-{offset + length - 1}")

    def metadata(self, key: str) -> Mapping[str, str]:
        """Return the metadata that put() was given.

        Raises:
            NoSuchObject: nothing is stored under key.
        """
        with storage_errors():
            found: Mapping[str, str] = self._client.head_object(Bucket=self.name, Key=key)["Metadata"]
        return found

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is no error."""
        wanted = [{"Key": key} for key in keys]
        for start in range(0, len(wanted), 1000):
            with storage_errors():
                self._client.delete_objects(
                    Bucket=self.name, Delete={"Objects": wanted[start : start + 1000], "Quiet": True}
                )

    def listing(self, prefix: str) -> Iterator[StoredObject]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        with storage_errors():
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield StoredObject(entry["Key"], entry["LastModified"].timestamp())

    def download(self, prefix: str, into: Path) -> None:
        """Write every object under prefix into a folder, by its name below the prefix."""
        root = into.resolve()
        for found in list(self.listing(prefix.rstrip("/") + "/")):
            path = (root / found.key.removeprefix(prefix.rstrip("/") + "/")).resolve()
            if root not in path.parents:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(found.key))

    def check(self) -> None:
        """Raise StorageUnavailable unless the bucket can be reached."""
        try:
            with storage_errors():
                self._client.head_bucket(Bucket=self.name)
        except NoSuchObject as error:
            raise StorageUnavailable(f"The bucket {self.name} does not exist.") from error

    def create(self) -> None:
        """Make the bucket unless it is there."""
        try:
            self.check()
        except StorageUnavailable:
            with storage_errors():
                self._client.create_bucket(Bucket=self.name)

    def _read(self, **request: str) -> bytes:
        with storage_errors():
            content: bytes = self._client.get_object(**request)["Body"].read()
        return content


class _Taken(MaskmillError):
    """A conditional put met an object; put_first() turns it into its answer."""


@contextmanager
def storage_errors() -> Iterator[None]:
    """Translate what boto3 raises.

    Raises:
        NoSuchObject: the key or the bucket does not exist.
        StorageUnavailable: anything else that S3 has to say.
    """
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in MISSING:
            raise NoSuchObject("there is no such object") from error
        if code in TAKEN:
            raise _Taken from error
        raise StorageUnavailable("The object store refused a request; try again in a few seconds.") from error
    except (BotoCoreError, OSError) as error:
        raise StorageUnavailable("The object store does not answer; try again in a few seconds.") from error


def open_bucket(settings: Settings, *, retries: int = 0, name: str = "") -> Bucket:
    """Return the bucket of the settings, or another one on the same server; nothing is connected yet.

    Args:
        retries: how often a failed call is tried again.  None for a gateway, which owes its caller a quick answer.
    """
    config = Config(
        connect_timeout=settings.storage_timeout_seconds,
        read_timeout=settings.storage_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": retries + 1},
        s3={"addressing_style": "path"} if settings.storage_endpoint else {},
        max_pool_connections=64,
    )
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=settings.storage_endpoint or None,
        region_name=settings.storage_region,
        aws_access_key_id=settings.storage_access_key or None,
        aws_secret_access_key=settings.storage_secret_key.get_secret_value() or None,
        config=config,
    )
    # Asking whether a body is welcome would add a second of silence to the timeout when the store hangs.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return Bucket(client, name or settings.storage_bucket)
