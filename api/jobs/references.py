"""Images that a submission names in place of sending them.  Nothing is looked up here."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UrlReference:
    """A URL that a worker fetches; it may hold a secret."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class BucketReference:
    """An object of a bucket that the operator has listed."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class UploadReference:
    """A file that the tenant has uploaded before."""

    upload_id: str


InputReference = UrlReference | BucketReference | UploadReference
