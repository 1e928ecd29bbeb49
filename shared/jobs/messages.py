"""The message of a job: task, queue and payload.

The gateway enqueues by name and never imports worker code, so it installs no torch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from shared.jobs.model import JobRequest, Priority

SEGMENT_TASK = "maskmill.segment"


def queue_name(model: str, priority: Priority) -> str:
    """Return the queue of a model (its public id) and a priority."""
    return f"segment.{model}.{priority}"


@dataclass(frozen=True, slots=True)
class SegmentMessage:
    """The id of a job; its request is in the job store, its image in the bucket or the payload store."""

    job_id: str
    request_id: str

    @classmethod
    def about(cls, request: JobRequest) -> Self:
        return cls(job_id=request.id, request_id=request.request_id)

    def to_wire(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: Mapping[str, str]) -> Self:
        """Read a message; members that a newer gateway added are ignored, so either side may be deployed first."""
        return cls(**{name: wire[name] for name in cls.__dataclass_fields__})
