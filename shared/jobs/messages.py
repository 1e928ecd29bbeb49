"""The messages to workers: the task, and the queues of a model.

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


def list_model_queues(model: str) -> list[str]:
    """Return the queues of a model, the highest priority first."""
    return [queue_name(model, priority) for priority in Priority]


def job_queue(request: JobRequest) -> str:
    """Return the queue of a job."""
    return queue_name(request.model, request.priority)


@dataclass(frozen=True, slots=True)
class SegmentMessage:
    """A queue has a job.  Which job is run is decided when one is claimed."""

    queue: str

    def to_wire(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: Mapping[str, str]) -> Self:
        """Read a message; members that a newer gateway added are ignored, so either side may be deployed first."""
        return cls(**{name: wire[name] for name in cls.__dataclass_fields__})
