"""The result of a job, stored as `result.json`: the one document that decides its final state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from pydantic import TypeAdapter

from shared.errors import MaskmillError
from shared.images.georeference import Georeference
from shared.jobs.model import Failure, JobRequest, JobState
from shared.jobs.provenance import Provenance
from shared.jobs.recut import RecutState


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a label map.

    id: its value in the label map, from 1.  score: in [0, 1], or None where the subtask has none (semantic).
    area: pixels.  bbox: (x, y, width, height) of the tightest box, pixels.
    is_thing: whether its class has separate instances, unlike stuff such as grass; True if the model does not say.
    """

    id: int
    label: str
    label_id: int
    score: float | None
    area: int
    bbox: tuple[int, int, int, int]
    is_thing: bool = True


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Where one mask's PNG lies inside masks.zip, so that a ranged GET fetches it."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An object as its attempt stored it, so that one that was overwritten later is recognized.

    bytes: its size.  etag: that the object store gave it.  sha256: of its content, in hexadecimal digits.
    media_type: if it is not that of the registry.
    """

    bytes: int
    etag: str
    sha256: str
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class JobRecut:
    """Whether a recut of a job is possible.

    floor: the lowest threshold of a recut, unless it has all queries, as a semantic recut needs.
    file: the logits, if they are stored; they are deleted before the other files.
    """

    state: RecutState
    floor: float = 1.0
    has_all_queries: bool = False
    file: StoredFile | None = None


@dataclass(frozen=True, slots=True)
class JobResult:
    """The final state of a job, success or not.

    attempt: number of the attempt that ended it; 0 if no worker ran it.
    attempt_name: of that attempt, whose files are in the folder of this name; empty if no worker ran it.
    masks: byte range in masks.zip by segment id; empty if that format was not requested.
    objects: the files, by the name of their format.
    omitted: formats of the request that cannot hold this result, by name, and why.
    batch_size: images that were on the device together; 0 if none was.
    georeference: where on Earth the image lies; None if its file does not say.
    recut: None if the job did not succeed, or if an earlier version ran it.
    provenance: None without a worker, and in results of earlier versions.
    """

    request: JobRequest
    state: JobState
    attempt: int = 0
    attempt_name: str = ""
    failure: Failure | None = None
    model_revision: str = ""
    segments: tuple[Segment, ...] = ()
    masks: Mapping[int, ByteRange] = field(default_factory=dict)
    objects: Mapping[str, StoredFile] = field(default_factory=dict)
    omitted: Mapping[str, Failure] = field(default_factory=dict)
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 0
    georeference: Georeference | None = None
    recut: JobRecut | None = None
    provenance: Provenance | None = None

    def to_json(self) -> bytes:
        return _RESULT.dump_json(self)

    @classmethod
    def from_json(cls, document: bytes) -> Self:
        """Read `result.json`.

        Raises:
            ValueError: the document is not a result.
        """
        return _RESULT.validate_json(document)  # type: ignore[return-value]


_RESULT = TypeAdapter(JobResult)


def failed_result(request: JobRequest, error: MaskmillError, *, attempt: int = 0, attempt_name: str = "") -> JobResult:
    """Return the result of a job that an error ended."""
    return JobResult(request, JobState.FAILED, attempt, attempt_name, failure=build_failure(error))


def build_failure(error: MaskmillError) -> Failure:
    """Return an error as it is stored."""
    # A message may quote text that UTF-8 cannot encode.
    return Failure(error.code, str(error).encode("utf-8", "replace").decode())
