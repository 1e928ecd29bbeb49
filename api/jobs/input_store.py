"""The input of a submission on its way into the inbox: sent with it, or named by it.

What lies in the object store is copied inside it, so a job does not depend on its source, and no gateway holds the
bytes.  A URL is fetched by a worker: until then its object in the inbox is empty, and holds the request alone.
"""

from dataclasses import dataclass

from api.jobs.references import BucketReference, InputReference, UploadReference, UrlReference
from api.jobs.upload import Upload
from api.jobs.uploads import Uploads
from shared.errors import BodyTooLarge, ForbiddenInput, InputNotFound
from shared.jobs.model import JobRequest
from shared.jobs.request_record import UNKNOWN_TYPE, store_input, store_request
from shared.outgoing.policy import OutgoingPolicy, check_url
from shared.storage.bucket import Bucket, NoSuchObject, ObjectChanged
from shared.storage.keys import inbox_key, upload_key
from shared.storage.s3_client import ObjectFacts, S3Client


@dataclass(frozen=True, slots=True)
class InputStore:
    """url_policy: None if URLs are not fetched.  buckets: that may be named.  max_bytes: of a file that is copied."""

    bucket: Bucket
    objects: S3Client
    uploads: Uploads
    url_policy: OutgoingPolicy | None
    buckets: frozenset[str]
    max_bytes: int

    def check(self, image: Upload | InputReference) -> None:
        """Refuse what can be refused without asking anybody.

        Raises:
            ForbiddenUrl: the URL has a scheme, an address or a form that is not allowed.
            ForbiddenInput: URLs are off, or the bucket is not listed.
        """
        match image:
            case UrlReference(url):
                if self.url_policy is None:
                    raise ForbiddenInput(
                        "This service fetches no URLs: send the image itself. Its operator can turn them on, with "
                        "MASKMILL_URL_INPUTS."
                    )
                check_url(url, self.url_policy)
            case BucketReference(bucket):
                if bucket not in self.buckets:
                    raise ForbiddenInput(
                        "This service reads no objects of this bucket; its operator lists those that it reads in "
                        "MASKMILL_INPUT_BUCKETS."
                    )

    def store(self, image: Upload | InputReference, request: JobRequest) -> None:
        """Store the input of a job, with its request as metadata.

        Raises:
            InputNotFound: there is no such object, or it was replaced meanwhile.
            UnknownUpload: there is no such upload, or it has expired.
            BodyTooLarge: the object has too many bytes.
            StorageUnavailable: the object store did not answer.
        """
        match image:
            case Upload():
                store_input(request, image.content, bucket=self.bucket)
            case UrlReference():
                store_input(request, b"", bucket=self.bucket)
            case UploadReference(upload_id):
                found = self.uploads.find(request.tenant, upload_id)
                self._copy(upload_key(request.tenant, upload_id), found, request)
            case BucketReference(bucket, key):
                self._copy(key, self._find(bucket, key), request, bucket)

    def _find(self, bucket: str, key: str) -> ObjectFacts:
        try:
            return self.objects.find(key, bucket)
        except NoSuchObject as error:
            raise InputNotFound("There is no such object in the bucket, or this service may not read it.") from error

    def _copy(self, key: str, found: ObjectFacts, request: JobRequest, bucket: str = "") -> None:
        if found.bytes > self.max_bytes:
            raise BodyTooLarge(f"The object has {found.bytes} bytes, and this service takes {self.max_bytes} at most.")
        metadata = store_request(request, bucket=self.bucket)
        try:
            self.objects.copy(
                key,
                inbox_key(request.id),
                etag=found.etag,
                content_type=UNKNOWN_TYPE,
                metadata=metadata,
                bucket=bucket,
            )
        except (NoSuchObject, ObjectChanged) as error:
            raise InputNotFound("The object was deleted or replaced just now; send the request again.") from error
