"""How a job ended, as `result.json` tells it: the one document that decides, and where its objects lie."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from shared.jobs.model import Failure, JobRequest, JobState


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a label map.

    id: its value in the label map, from 1.  score: in [0, 1], or None where the subtask has none (semantic).
    area: pixels.  bbox: (x, y, width, height) of the tightest box, pixels.
    """

    id: int
    label: str
    label_id: int
    score: float | None
    area: int
    bbox: tuple[int, int, int, int]

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        known = {name: wire[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "bbox": tuple(wire["bbox"])})


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Where one mask's PNG lies inside masks.zip, so that it can be had by a ranged GET."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class JobResult:
    """The end of a job, whatever it is.  `attempt` is the one that won; 0 if no worker had to do with it."""

    request: JobRequest
    state: JobState
    attempt: int = 0
    failure: Failure | None = None
    model_revision: str = ""
    segments: tuple[Segment, ...] = ()
    masks: Mapping[int, ByteRange] = field(default_factory=dict)
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, document: bytes) -> Self:
        wire = json.loads(document)
        return cls(
            request=JobRequest.from_json(json.dumps(wire["request"])),
            state=JobState(wire["state"]),
            attempt=wire["attempt"],
            failure=Failure(**wire["failure"]) if wire["failure"] else None,
            model_revision=wire["model_revision"],
            segments=tuple(Segment.from_wire(segment) for segment in wire["segments"]),
            masks={int(number): ByteRange(**found) for number, found in wire["masks"].items()},
            timings_ms=wire["timings_ms"],
        )
