"""The contract between gateway, worker and steward: task names, and the one payload.

The gateway sends by name and never imports worker code, so it installs no torch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

SEGMENT_TASK = "maskmill.segment"
SWEEP_TASK = "maskmill.sweep"
RECOVER_TASK = "maskmill.recover"
EXPIRE_TASK = "maskmill.expire"
STEWARD_QUEUE = "steward"


@dataclass(frozen=True, slots=True)
class SegmentMessage:
    """Names a job, never carries it: what was asked for is in the job store, the image in the bucket or in Redis."""

    job_id: str
    request_id: str

    def to_wire(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: Mapping[str, str]) -> Self:
        # Fields that a newer gateway added are ignored, so either side may be deployed first.
        return cls(**{name: wire[name] for name in cls.__dataclass_fields__})
