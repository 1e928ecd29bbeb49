"""Files that clients upload once, for one or several jobs later: `uploads/{tenant}/{upload_id}` in the bucket.

Nothing but the file is stored: the id says when it was given out, and the key whose it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from shared.errors import UnknownUpload
from shared.jobs.ids import is_job_id, read_creation_time
from shared.jobs.inspection import inspect_image
from shared.jobs.upload_accounts import UploadAccounts
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import upload_key
from shared.storage.s3_client import ObjectFacts, S3Client, SignedForm

log = structlog.get_logger()

# Clocks of Redis that was replaced meanwhile may differ by so much.
MAX_CLOCK_ERROR_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload that a client may make now.

    form: for the object store itself; None if clients do not reach it, and upload through the gateway.
    expires_at: unix seconds; until then the file can be uploaded and used.
    """

    upload_id: str
    form: SignedForm | None
    expires_at: float


@dataclass(frozen=True, slots=True)
class Uploads:
    """`public` signs forms for the URL under which clients reach the object store; None if they do not.

    `now` returns unix seconds by the clock of Redis; `check_stores` raises Unavailable if nothing may be stored.
    """

    bucket: Bucket
    objects: S3Client
    public: S3Client | None
    new_id: Callable[[], str]
    now: Callable[[], float]
    check_stores: Callable[[], None]
    ttl_seconds: int
    accounts: UploadAccounts
    max_bytes: int
    max_image_pixels: int
    max_image_side: int

    def create(self, tenant: str, *, max_bytes: int | None, content_type: str) -> NewUpload:
        """Return the id of a new upload and how to make it; nothing is stored.

        Args:
            max_bytes: of the file; None, or more than the service accepts: what it accepts.
            content_type: that the client will send.

        Raises:
            QuotaExceeded: the tenant has too many uploads, or too many bytes, that have not expired.
            Unavailable: nothing may be stored, or there are no credentials to sign with.
        """
        self.check_stores()
        upload_id, limit = self.new_id(), min(max_bytes or self.max_bytes, self.max_bytes)
        expires_at = self._count(tenant, upload_id, limit)
        form = None
        if self.public is not None:
            form = self.public.sign_form(
                upload_key(tenant, upload_id),
                max_bytes=limit,
                content_type=content_type,
                seconds=self.ttl_seconds,
            )
        log.info("upload_created", upload_id=upload_id, is_signed=form is not None)
        return NewUpload(upload_id, form, expires_at)

    def put(self, tenant: str, upload_id: str, content: bytes) -> None:
        """Store the file of an upload, in place of one that was stored before.

        Raises:
            UnknownUpload: the id was not given out, or has expired.
            ClientError: the file is not an image that is accepted.
            QuotaExceeded: as create(); the file is larger than was said.
            Unavailable: nothing may be stored, or the bucket did not answer.
        """
        self.check_stores()
        self._check_id(upload_id)
        image = inspect_image(content, max_pixels=self.max_image_pixels, max_side=self.max_image_side)
        self._count(tenant, upload_id, len(content))
        self.bucket.put(upload_key(tenant, upload_id), content, content_type=f"image/{image.format}")
        log.info("upload_stored", upload_id=upload_id, bytes=len(content))

    def find(self, tenant: str, upload_id: str) -> ObjectFacts:
        """Return size and ETag of a tenant's upload.

        Raises:
            UnknownUpload: there is none of this id, it has expired, or nothing was uploaded.
            StorageUnavailable: the bucket did not answer.
        """
        self._check_id(upload_id)
        try:
            return self.objects.find(upload_key(tenant, upload_id))
        except NoSuchObject as error:
            raise _unknown(upload_id) from error

    def _count(self, tenant: str, upload_id: str, max_bytes: int) -> float:
        """Count an upload for its tenant, also one whose id was not given out here; return when it expires."""
        expires_at = read_creation_time(upload_id) + self.ttl_seconds
        self.accounts.open(tenant, upload_id, max_bytes=max_bytes, expires_at=expires_at)
        return expires_at

    def _check_id(self, upload_id: str) -> None:
        """Raise UnknownUpload unless an id was given out within the time to live."""
        if not is_job_id(upload_id):
            raise _unknown(upload_id)
        age = self.now() - read_creation_time(upload_id)
        if not -MAX_CLOCK_ERROR_SECONDS <= age < self.ttl_seconds:
            raise _unknown(upload_id)


def _unknown(upload_id: str) -> UnknownUpload:
    return UnknownUpload(f"There is no upload {upload_id[:64]}, or nothing was uploaded for it, or it has expired.")
