"""The values of a job: its request, its state and its failure.  No Redis and no S3 here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import Discriminator, JsonValue, TypeAdapter

from shared.jobs.format_options import FormatOptions
from shared.jobs.parameters import SegmentParameters


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Priority(StrEnum):
    """Order of jobs of one model; a caller waits for an interactive one."""

    INTERACTIVE = "interactive"
    NORMAL = "normal"
    LOW = "low"


# After this many jobs of other priorities a waiting job of this priority is claimed first, so that it never starves.
MAX_PASSED_OVER: Final[Mapping[Priority, int]] = {Priority.NORMAL: 4, Priority.LOW: 24}


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts from the header of an image, read without decoding it.  Width and height in pixels, as seen upright."""

    format: str
    width: int
    height: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class InboxInput:
    """The image is the object `inbox/{job_id}`, which outlives the loss of Redis."""

    kind: Literal["inbox"] = "inbox"

    @property
    def is_durable(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class PayloadInput:
    """The image is in the payload store, until shortly after the job's deadline."""

    kind: Literal["payload"] = "payload"

    @property
    def is_durable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class UrlInput:
    """The image is at a URL, until a worker has fetched it; then it is the object `inbox/{job_id}`, empty before.

    url: may hold a secret in its query, so it is neither shown whole nor logged.
    """

    url: str = field(repr=False)
    kind: Literal["url"] = "url"

    @property
    def is_durable(self) -> bool:
        return True


InputRef = Annotated[InboxInput | PayloadInput | UrlInput, Discriminator("kind")]


@dataclass(frozen=True, slots=True)
class Retention:
    """Retention of a job's record in Redis; the bucket keeps its result in any case.

    record_seconds: how long its record is kept once it is final.
    is_listed: whether it appears in the tenant's list of jobs.
    """

    record_seconds: int
    is_listed: bool = True


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The caller's key under which a job was submitted; kept with the input, so that it outlives Redis.

    digest: SHA-256 of the tenant and its key, which may be longer than the metadata of an object.
    fingerprint: SHA-256 of what was submitted.
    expires_at: unix seconds by the clock of Redis.
    """

    digest: str
    fingerprint: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class JobRequest:
    """The request of a job.  It never changes, and is also the metadata of the input, so that it outlives Redis.

    image: None until a worker has read an image that the gateway has not seen: from a URL, a bucket or an upload.
    formats: names from shared/formats/registry.py, in its order.
    created_at, deadline_at: unix seconds by the clock of Redis.
    wants_reply: whether a caller waits for the Hugging Face array in the payload store.
    idempotency: None if the job was submitted without a key.
    client_id: the caller's own name of the job, unique within the tenant.
    labels: the formats show only segments of these labels; empty: of all.
    metadata: the caller's own JSON object, returned as it is.
    webhook: the id of the tenant's endpoint that is told of the end, or a URL.
    keeps_all_queries: whether the output of every query is kept, so that a semantic recut is possible.
    recut_of: the job of which this one is a recut.
    redrive_of: the job that this one runs again.
    """

    id: str
    tenant: str
    model: str
    parameters: SegmentParameters
    image: ImageFacts | None
    input: InputRef
    priority: Priority
    formats: tuple[str, ...]
    retention: Retention
    created_at: float
    request_id: str
    deadline_at: float | None = None
    wants_reply: bool = False
    idempotency: Idempotency | None = None
    client_id: str | None = None
    labels: tuple[str, ...] = ()
    format_options: FormatOptions = field(default_factory=FormatOptions)
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    webhook: str | None = None
    keeps_all_queries: bool = False
    recut_of: str | None = None
    redrive_of: str | None = None

    def require_image(self) -> ImageFacts:
        """Return the facts of the image.

        Raises:
            ValueError: it was not read yet.
        """
        if self.image is None:
            raise ValueError(f"the image of job {self.id} was not read yet")
        return self.image

    def to_json(self) -> str:
        """Return JSON in ASCII, so that it fits into an HTTP header."""
        return _REQUEST.dump_json(self, ensure_ascii=True).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a request; members that a newer gateway added are ignored, so either side may be deployed first.

        Raises:
            ValueError: the text is not a request.
        """
        return _REQUEST.validate_json(text)  # type: ignore[return-value]


_REQUEST = TypeAdapter(JobRequest)


def build_file_name(request: JobRequest) -> str:
    """Return a name for the image of a job, in files that name it: there is none of the caller's."""
    return f"{request.id}.{request.require_image().format}"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job has no result; `code` is one of shared/errors/."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a queued job stands.

    position: jobs of its model that come before it, of its own priority and of higher ones, plus one.
    pixels: of its image, and of theirs, by the mean of each queue.
    """

    position: int
    pixels: int


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the job store knows it.

    attempt: number of claims.  attempt_name: of the last one, unique for ever; empty if there was none.
    stalls: how often its lease expired while it was exposed; with at least one it is a suspect.
    started_at, ended_at: unix seconds by the clock of Redis.  timings_ms: milliseconds by stage.
    kept_until: likewise; None if the job is kept no longer than others.
    place: of a queued job that can be claimed, where it was asked for.
    """

    request: JobRequest
    state: JobState = JobState.QUEUED
    attempt: int = 0
    attempt_name: str = ""
    stalls: int = 0
    worker: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    kept_until: float | None = None
    failure: Failure | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    place: QueuePlace | None = None

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def expires_at(self) -> float | None:
        """When the record of the job is deleted, unix seconds; None before the end of the job."""
        if self.ended_at is None:
            return None
        return max(self.ended_at + self.request.retention.record_seconds, self.kept_until or 0.0)
