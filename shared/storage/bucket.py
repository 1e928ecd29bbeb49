"""The bucket: inputs and results, on any S3-compatible server."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import boto3
import obstore
from botocore.exceptions import BotoCoreError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import S3Store

from shared.errors import MaskmillError, StorageUnavailable
from shared.settings import Settings

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig

# Larger objects are sent with a longer timeout.
LARGE_BYTES = 4 * 2**20
LARGE_TIMEOUT_FACTOR = 4
MAX_TRANSFER_TIME = timedelta(seconds=60)
_PAGE = 1000
# The only way to tell the client of the store to use no proxy: one that all names and addresses are excepted from.
UNUSED_PROXY = "http://unused.invalid"
EVERY_HOST = "*,0.0.0.0/0,::/0"


class NoSuchObject(MaskmillError):
    """Nothing is stored under this key."""

    code = "no_such_object"


class ObjectChanged(MaskmillError):
    """Another object is stored under this key than the one that was asked for."""

    code = "object_changed"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An entry of a listing; `modified_at` is unix seconds."""

    key: str
    modified_at: float


class Bucket:
    """Thread-safe.  Every method may raise StorageUnavailable."""

    def __init__(self, store: S3Store, slow: S3Store) -> None:
        """Take two clients of the bucket: one with a short timeout, and one with a longer one for large objects."""
        self._store = store
        self._slow = slow

    def put(self, key: str, content: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None) -> str:
        """Store content under key, and return its ETag."""
        store = self._slow if len(content) > LARGE_BYTES else self._store
        attributes = {"Content-Type": content_type, **(metadata or {})}
        with storage_errors():
            return obstore.put(store, key, content, attributes=attributes, use_multipart=False)["e_tag"] or ""

    def put_first(self, key: str, content: bytes, *, content_type: str) -> bool:
        """Store content under key unless the key exists (If-None-Match: *); return whether it was stored."""
        try:
            with storage_errors():
                attributes = {"Content-Type": content_type}
                obstore.put(self._store, key, content, attributes=attributes, mode="create", use_multipart=False)
        except _ConditionFailed:
            return False
        return True

    def get(self, key: str, etag: str | None = None) -> bytes:
        """Return the content of an object.

        Args:
            etag: of the object that is wanted, as put() returned it; None for any.

        Raises:
            NoSuchObject: nothing is stored under key.
            ObjectChanged: another object is.
        """
        return self._get(key, etag, {})

    def get_range(self, key: str, *, offset: int, length: int, etag: str | None = None) -> bytes:
        """Return `length` bytes of an object.

        Raises:
            NoSuchObject, ObjectChanged: as for get().
        """
        return self._get(key, etag, {"range": (offset, offset + length)})

    def _get(self, key: str, etag: str | None, options: "GetOptions") -> bytes:
        if etag:
            options["if_match"] = etag
        try:
            with storage_errors():
                return bytes(obstore.get(self._store, key, options=options).bytes())
        except _ConditionFailed as error:
            raise ObjectChanged("another object is stored in its place") from error

    def has(self, key: str, etag: str) -> bool:
        """Return whether an object is stored under a key and has this ETag, as put() returned it."""
        try:
            with storage_errors():
                return obstore.head(self._store, key)["e_tag"] == etag
        except NoSuchObject:
            return False

    def get_dated(self, key: str) -> tuple[bytes, float]:
        """Return the content of an object, and when it was stored: unix seconds by the clock of the object store.

        Raises:
            NoSuchObject: nothing is stored under key.
        """
        with storage_errors():
            found = obstore.get(self._store, key)
            return bytes(found.bytes()), found.meta["last_modified"].timestamp()

    def copy(self, source: str, target: str) -> None:
        """Copy an object with its metadata, inside the object store.

        Raises:
            NoSuchObject: nothing is stored under `source`.
        """
        with storage_errors():
            obstore.copy(self._slow, source, target)

    def get_metadata(self, key: str) -> Mapping[str, str]:
        """Return the metadata that put() was given.

        Raises:
            NoSuchObject: nothing is stored under key.
        """
        with storage_errors():
            found = obstore.get(self._store, key, options={"head": True}).attributes
        return {str(name): str(value) for name, value in found.items()}

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a missing one is not an error."""
        wanted = list(keys)
        if not wanted:
            return
        try:
            with storage_errors():
                obstore.delete(self._store, wanted)
        except NoSuchObject:
            return

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects under a prefix that ends at a slash, in the order of their keys."""
        pages = iter(obstore.list(self._store, prefix.rstrip("/"), chunk_size=_PAGE))
        while True:
            with storage_errors():
                page = next(pages, None)
            if page is None:
                return
            for entry in page:
                yield StoredObject(entry["path"], entry["last_modified"].timestamp())

    def is_empty(self, prefix: str) -> bool:
        """Return whether no object lies under a prefix that ends at a slash."""
        return next(self.list_objects(prefix), None) is None

    def download(self, prefix: str, into: Path, names: re.Pattern[str]) -> None:
        """Mirror the objects directly below a prefix into a folder, by their names.

        Each file is replaced as a whole, because another process may be reading the one before.

        Args:
            names: matches the whole name of each object that is written, and of each file that is deleted if the
                prefix has no such object; it must match neither slashes nor names that begin with a dot.
        """
        written = set()
        for found in list(self.list_objects(prefix)):
            name = found.key.removeprefix(prefix.rstrip("/") + "/")
            if names.fullmatch(name):
                self._write_file(found.key, into / name)
                written.add(name)
        for path in into.iterdir():
            if names.fullmatch(path.name) and path.name not in written:
                path.unlink()

    def _write_file(self, key: str, path: Path) -> None:
        with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part", delete=False) as file:
            part = Path(file.name)
            try:
                with storage_errors():
                    for chunk in obstore.get(self._slow, key):
                        file.write(chunk)
                file.flush()
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise StorageUnavailable unless the bucket can be reached."""
        try:
            with storage_errors():
                next(iter(obstore.list(self._store, "inbox", chunk_size=1)), None)
        except NoSuchObject as error:
            raise StorageUnavailable("The bucket does not exist.") from error


class _ConditionFailed(MaskmillError):
    """A conditional put found an object, or a conditional get another one than it asked for."""


@contextmanager
def storage_errors() -> Iterator[None]:
    """Translate the errors of the object store's client.

    Raises:
        NoSuchObject: the key or the bucket does not exist.
        StorageUnavailable: any other error of the client or the network.
    """
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise NoSuchObject("there is no such object") from error
    except (AlreadyExistsError, PreconditionError) as error:
        raise _ConditionFailed from error
    except (BaseError, OSError) as error:
        raise StorageUnavailable("The object store does not answer; try again in a few seconds.") from error


def check_credentials(settings: Settings) -> None:
    """End the process with one line if it has no credentials for the bucket.  For composition roots only."""
    if settings.storage_access_key:
        return
    try:
        found = boto3.session.Session().get_credentials()
    except BotoCoreError as error:  # a profile that does not exist, a service that gives no credentials
        reason = f"the credentials of this machine cannot be read ({' '.join(str(error).split())})"
    else:
        if found:
            return
        reason = "this machine has no credentials of its own"
    raise SystemExit(
        f"Wrong settings: MASKMILL_STORAGE_ACCESS_KEY: is not set, and {reason}; set it and MASKMILL_STORAGE_SECRET_KEY"
    )


def open_bucket(settings: Settings, *, retries: int = 0, name: str = "") -> Bucket:
    """Return the bucket of the settings, or another one on the same server; nothing is sent yet.

    Keys in the bucket of the settings begin with MASKMILL_STORAGE_PREFIX, which the client adds; in another one they do
    not.

    Args:
        retries: how often a failed call is repeated.  0 for a gateway, so that its callers get a 503 without delay.
    """
    seconds = settings.storage_timeout_seconds
    return Bucket(
        build_store(settings, retries, name, timedelta(seconds=seconds)),
        build_store(settings, retries, name, timedelta(seconds=LARGE_TIMEOUT_FACTOR * seconds)),
    )


def build_store(settings: Settings, retries: int, name: str, timeout: timedelta) -> S3Store:
    """Return a client of the bucket of the settings, or of another one on the same server, without the prefix."""
    options: dict[str, Any] = {}
    if settings.storage_endpoint:
        options |= {"endpoint": settings.storage_endpoint, "virtual_hosted_style_request": False}
    if settings.storage_access_key:
        options["access_key_id"] = settings.storage_access_key
        options["secret_access_key"] = settings.storage_secret_key.get_secret_value()
    else:
        # Profiles, roles and other sources of credentials, as boto3 finds them.
        options["credential_provider"] = Boto3CredentialProvider(boto3.session.Session())
    return S3Store(
        name or settings.storage_bucket,
        prefix=None if name else settings.storage_prefix or None,
        region=settings.storage_region,
        client_options={
            "allow_http": True,
            "connect_timeout": timeout,
            # Between two reads, not for the whole object.
            "read_timeout": timeout,
            "timeout": MAX_TRANSFER_TIME,
            **_build_proxy_options(settings.storage_proxy),
        },
        retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=60)},
        **options,
    )


def _build_proxy_options(proxy: str) -> "ClientConfig":
    """Return the options for a proxy, or those for none: without options the client would look for `http_proxy`."""
    return {"proxy_url": proxy} if proxy else {"proxy_url": UNUSED_PROXY, "proxy_excludes": EVERY_HOST}
