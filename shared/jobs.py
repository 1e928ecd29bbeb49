"""What a job is: what was asked for, where it stands, and how it ended.  Values only; no Redis and no S3 here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import orjson


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


class Lane(StrEnum):
    """Somebody waits for an interactive job; a batch job has time."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class Subtask(StrEnum):
    PANOPTIC = "panoptic"
    INSTANCE = "instance"
    SEMANTIC = "semantic"


THRESHOLDS = ("threshold", "mask_threshold", "overlap_mask_area_threshold")
SWITCHES = ("fuse_stuff", "strict_instance_thresholds")


@dataclass(frozen=True, slots=True)
class SegmentParameters:
    """How to segment; the defaults are those of the reference pipeline.

    The three thresholds lie in [0, 1].  Without a subtask the model's own first choice is taken.

    fuse_stuff: in panoptic, make one segment of all that a class such as sky or road has.
    strict_instance_thresholds: let mask_threshold and overlap_mask_area_threshold count for instance, too.
    """

    threshold: float = 0.9
    mask_threshold: float = 0.5
    overlap_mask_area_threshold: float = 0.5
    subtask: Subtask | None = None
    fuse_stuff: bool = False
    strict_instance_thresholds: bool = False

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        subtask = wire.get("subtask")
        known: dict[str, Any] = {name: float(wire[name]) for name in THRESHOLDS if name in wire}
        known |= {name: bool(wire[name]) for name in SWITCHES if name in wire}
        return cls(**known, subtask=Subtask(subtask) if subtask else None)


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
    lane: Lane
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
        known["lane"] = Lane(wire["lane"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job has no result; `code` is one of shared/errors.py."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the job store knows it.

    `attempt` counts claims and names the folder of the objects; `lapses` counts workers that were lost with it.
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
