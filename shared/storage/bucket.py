"""The bucket: inputs, results and nothing that must be fast.  Any S3-compatible server will do."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import obstore
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import S3Store

from shared.errors import MaskmillError, StorageUnavailable
from shared.settings import Settings

# Below this an object is written in one go within the timeout; a larger one is given time for its bytes.
LARGE_BYTES = 4 * 2**20
LARGE_PATIENCE = 4
LONGEST_TRANSFER = timedelta(seconds=60)
_PAGE = 1000


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

    def __init__(self, store: S3Store, patient: S3Store) -> None:
        """Take the bucket twice: for what is answered at once, and for what takes a while to send."""
        self._store = store
        self._patient = patient

    def put(self, key: str, content: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None) -> None:
        store = self._patient if len(content) > LARGE_BYTES else self._store
        attributes = {"Content-Type": content_type, **(metadata or {})}
        with storage_errors():
            obstore.put(store, key, content, attributes=attributes, use_multipart=False)

    def put_first(self, key: str, content: bytes, *, content_type: str) -> bool:
        """Store content under key unless something is there already; say whether it was stored."""
        try:
            with storage_errors():
                attributes = {"Content-Type": content_type}
                obstore.put(self._store, key, content, attributes=attributes, mode="create", use_multipart=False)
        except _Taken:
            return False
        return True

    def get(self, key: str) -> bytes:
        """Return what is stored under key.

        Raises:
            NoSuchObject: nothing is.
        """
        with storage_errors():
            return bytes(obstore.get(self._store, key).bytes())

    def get_range(self, key: str, *, offset: int, length: int) -> bytes:
        """Return `length` bytes of an object.

        Raises:
            NoSuchObject: nothing is stored under key.
        """
        with storage_errors():
            return bytes(obstore.get_range(self._store, key, start=offset, length=length))

    def metadata(self, key: str) -> Mapping[str, str]:
        """Return the metadata that put() was given.

        Raises:
            NoSuchObject: nothing is stored under key.
        """
        with storage_errors():
            found = obstore.get(self._store, key, options={"head": True}).attributes
        return {str(name): str(value) for name, value in found.items()}

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is no error."""
        wanted = list(keys)
        if not wanted:
            return
        try:
            with storage_errors():
                obstore.delete(self._store, wanted)
        except NoSuchObject:
            return

    def listing(self, prefix: str) -> Iterator[StoredObject]:
        """Yield what lies under a prefix that ends at a slash, by key."""
        pages = iter(obstore.list(self._store, prefix.rstrip("/"), chunk_size=_PAGE))
        while True:
            with storage_errors():
                page = next(pages, None)
            if page is None:
                return
            for entry in page:
                yield StoredObject(entry["path"], entry["last_modified"].timestamp())

    def download(self, prefix: str, into: Path) -> None:
        """Write every object under prefix into a folder, by its name below the prefix."""
        root = into.resolve()
        for found in list(self.listing(prefix)):
            path = (root / found.key.removeprefix(prefix.rstrip("/") + "/")).resolve()
            if root not in path.parents:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with storage_errors(), path.open("wb") as file:
                for chunk in obstore.get(self._patient, found.key):
                    file.write(chunk)

    def check(self) -> None:
        """Raise StorageUnavailable unless the bucket can be reached."""
        try:
            with storage_errors():
                next(iter(obstore.list(self._store, "inbox", chunk_size=1)), None)
        except NoSuchObject as error:
            raise StorageUnavailable("The bucket does not exist.") from error


class _Taken(MaskmillError):
    """A conditional put met an object; put_first() turns it into its answer."""


@contextmanager
def storage_errors() -> Iterator[None]:
    """Translate what the object store's client raises.

    Raises:
        NoSuchObject: the key or the bucket does not exist.
        StorageUnavailable: anything else that went wrong between us and the store.
    """
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise NoSuchObject("there is no such object") from error
    except (AlreadyExistsError, PreconditionError) as error:
        raise _Taken from error
    except (BaseError, OSError) as error:
        raise StorageUnavailable("The object store does not answer; try again in a few seconds.") from error


def open_bucket(settings: Settings, *, retries: int = 0, name: str = "") -> Bucket:
    """Return the bucket of the settings, or another one on the same server; nothing is connected yet.

    Args:
        retries: how often a failed call is tried again.  None for a gateway, which owes its caller a quick answer.
    """
    seconds = settings.storage_timeout_seconds
    return Bucket(
        _open(settings, retries, name, timedelta(seconds=seconds)),
        _open(settings, retries, name, timedelta(seconds=LARGE_PATIENCE * seconds)),
    )


def _open(settings: Settings, retries: int, name: str, timeout: timedelta) -> S3Store:
    options: dict[str, Any] = {}
    if settings.storage_endpoint:
        options |= {"endpoint": settings.storage_endpoint, "virtual_hosted_style_request": False}
    if settings.storage_access_key:
        options["access_key_id"] = settings.storage_access_key
        options["secret_access_key"] = settings.storage_secret_key.get_secret_value()
    else:
        # Profiles, roles and whatever else the machine has: boto3 knows where to look.
        options["credential_provider"] = Boto3CredentialProvider(boto3.session.Session())
    return S3Store(
        name or settings.storage_bucket,
        region=settings.storage_region,
        client_options={
            "allow_http": True,
            "connect_timeout": timeout,
            # Between two bytes, not for all of them: a large object may take its time as long as it comes.
            "read_timeout": timeout,
            "timeout": LONGEST_TRANSFER,
        },
        retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=60)},
        **options,
    )
