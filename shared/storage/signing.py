"""Signed URLs, by which clients fetch an object without the gateway.  Nothing is sent; they never appear in logs."""

from dataclasses import dataclass, field
from datetime import timedelta

import obstore
from obstore.store import S3Store

from shared.settings import Settings
from shared.storage.bucket import build_store, storage_errors


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """The URL, and for how many seconds it is valid from now."""

    url: str = field(repr=False)
    expires_in_seconds: int


@dataclass(frozen=True, slots=True)
class UrlSigner:
    """Thread-safe."""

    store: S3Store
    seconds: int

    def sign(self, key: str) -> SignedUrl:
        """Return a URL with which anybody can fetch an object.

        Raises:
            StorageUnavailable: this machine has no credentials now.
        """
        with storage_errors():
            return SignedUrl(obstore.sign(self.store, "GET", key, timedelta(seconds=self.seconds)), self.seconds)


def open_signer(settings: Settings, *, endpoint: str, seconds: int) -> UrlSigner:
    """Return a signer for the bucket of the settings, under the URL by which clients reach its server."""
    timeout = timedelta(seconds=settings.storage_timeout_seconds)
    return UrlSigner(build_store(settings.model_copy(update={"storage_endpoint": endpoint}), 0, "", timeout), seconds)
