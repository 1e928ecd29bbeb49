"""Fetching a job's image from the place that its request names."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from shared.errors import DeadlineExceeded, InputMissing
from shared.jobs.inspection import inspect_image
from shared.jobs.model import ImageFacts, InboxInput, JobRequest, PayloadInput, UrlInput
from shared.jobs.payloads import PayloadStore
from shared.jobs.request_record import store_input
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import inbox_key
from worker.pipeline.held_fetches import HeldFetches
from worker.pipeline.leases import Lease

RecordImage = Callable[[str, str, ImageFacts], object]
"""Takes the id of a job, the name of its attempt, and the facts of its image; JobStore.record_image()."""


class UrlReader(Protocol):
    """Fetches the file at a URL, within bounds; implemented by worker.pipeline.url_fetcher.UrlFetcher."""

    def fetch(self, url: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class InputReader:
    """max_pixels, max_side: of images that no gateway has seen."""

    bucket: Bucket
    payloads: PayloadStore
    urls: UrlReader
    held_fetches: HeldFetches
    record_image: RecordImage
    max_pixels: int
    max_side: int

    def fetch(self, lease: Lease) -> tuple[JobRequest, bytes]:
        """Return the request of a job, which has the facts of its image now, and the bytes of the image file.

        Raises:
            InputMissing: the object does not exist.
            DeadlineExceeded: the payload has expired, shortly after the job's deadline.
            Canceled: the lease was lost while a URL was fetched.
            ClientError: the URL cannot be used, or what no gateway has seen is not an image that is accepted.
            UrlsBusy: too many slow URLs are fetched already.
            Unavailable: Redis or the bucket did not answer.
        """
        request = lease.claim.request
        match request.input:
            case InboxInput():
                data = self._fetch_object(request)
            case PayloadInput():
                return request, self._fetch_payload(request)
            case UrlInput(url):
                # Empty until an attempt has fetched it, so that all attempts use the same bytes.
                data = self._fetch_object(request) or self._fetch_url(lease, url)
        if request.image is None:
            request = self._inspect(request, data)
            self.record_image(request.id, lease.claim.attempt_name, request.require_image())
        return request, data

    def _fetch_object(self, request: JobRequest) -> bytes:
        try:
            return self.bucket.get(inbox_key(request.id))
        except NoSuchObject as error:
            raise InputMissing("The image of this job is not in the bucket any more; submit it again.") from error

    def _fetch_payload(self, request: JobRequest) -> bytes:
        image = self.payloads.get_input(request.id)
        if image is None:
            raise DeadlineExceeded("The image was kept until the deadline, which has passed.")
        return image

    def _fetch_url(self, lease: Lease, url: str) -> bytes:
        """Fetch a URL, and keep its bytes in the inbox if they are an image that is accepted."""
        # A server may take long, and the device is not needed meanwhile.
        with nullcontext() if lease.lend_slot() else self.held_fetches.hold():
            data = self.urls.fetch(url)
        request = self._inspect(lease.claim.request, data)
        lease.check()
        store_input(request, data, bucket=self.bucket)
        return data

    def _inspect(self, request: JobRequest, data: bytes) -> JobRequest:
        """Check an image as the gateway does before it accepts one, and return the request with its facts."""
        return replace(request, image=inspect_image(data, max_pixels=self.max_pixels, max_side=self.max_side))
