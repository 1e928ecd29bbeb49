"""Fetching a job's image from the place that its request names."""

from dataclasses import dataclass

from shared.errors import DeadlineExceeded, InputMissing
from shared.jobs.model import InboxInput, JobRequest, PayloadInput
from shared.jobs.payloads import PayloadStore
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import inbox_key


@dataclass(frozen=True, slots=True)
class InputReader:
    bucket: Bucket
    payloads: PayloadStore

    def fetch(self, request: JobRequest) -> bytes:
        """Return the bytes of a job's image file.

        Raises:
            InputMissing: the object does not exist.
            DeadlineExceeded: the payload has expired, shortly after the job's deadline.
            Unavailable: Redis or the bucket did not answer.
        """
        match request.input:
            case InboxInput():
                return self._fetch_object(request)
            case PayloadInput():
                return self._fetch_payload(request)

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
