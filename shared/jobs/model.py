"""What a job is: what was asked for, where it stands, and how it ended.  Values only; no Redis and no S3 here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

import orjson

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
        return not NEXT[self]


# A running job may be queued again: its worker was lost, or gave it back.  A queued one may succeed: the bucket held
# its end although Redis did not know, because the worker, or Redis itself, was lost in between.
_ENDS = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED})
NEXT: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: _ENDS | {JobState.RUNNING},
    JobState.RUNNING: _ENDS | {JobState.QUEUED},
    **dict.fromkeys(_ENDS, frozenset()),
}


class Priority(StrEnum):
    """Which jobs run first: a caller waits for an interactive one."""

    INTERACTIVE = "interactive"
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the header of an image says, read without decoding it.  Width and height in pixels, as seen upright."""

    format: str
    width: int
    height: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What was asked for.  Never changes, and travels as the metadata of the input, so that it outlives Redis.

    `created_at` and `deadline_at` are unix seconds.  An interactive job has its image in Redis for a short time and
    somebody waiting for the reply; a batch job has it in the bucket.
    """

    id: str
    tenant: str
    model: str
    parameters: SegmentParameters
    image: ImageFacts
    priority: Priority
    created_at: float
    request_id: str
    deadline_at: float | None = None

    def to_json(self) -> str:
        """Plain ASCII, so that it fits into an HTTP header."""
        # orjson takes a dataclass apart far faster than asdict(), but would not keep to ASCII.
        return json.dumps(orjson.loads(orjson.dumps(self)), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        # Fields that a newer gateway added are ignored, so either side may be deployed first.
        wire = orjson.loads(text)
        known = {name: wire[name] for name in cls.__dataclass_fields__ if name in wire}
        known["parameters"] = SegmentParameters.from_wire(wire["parameters"])
        known["image"] = ImageFacts(**{name: wire["image"][name] for name in ImageFacts.__dataclass_fields__})
        known["priority"] = Priority(wire["priority"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job has no result; `code` is one of shared/errors.py."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the job store knows it.

    `attempt` counts payloads and names the folder of the objects; `lapses` counts workers that were lost with it.
    Times are unix seconds by the clock of Redis; timings are milliseconds by stage.
    """

    request: JobRequest
    state: JobState = JobState.QUEUED
    attempt: int = 0
    lapses: int = 0
    worker: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    failure: Failure | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.request.id
