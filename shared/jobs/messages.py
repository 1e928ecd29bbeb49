"""The contract between gateway, worker and steward: task names, queues, and the one payload.

The gateway sends by name and never imports worker code, so it installs no torch.
"""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

import orjson

from shared.jobs.model import JobRequest, Priority

SEGMENT_TASK = "maskmill.segment"
SWEEP_TASK = "maskmill.sweep"
RECOVER_TASK = "maskmill.recover"
EXPIRE_TASK = "maskmill.expire"
STEWARD_QUEUE = "steward"


def queue_name(model: str, priority: Priority) -> str:
    """Return the queue of a model (its public id) and a priority."""
    return f"segment.{model}.{priority}"


@dataclass(frozen=True, slots=True)
class SegmentMessage:
    """Names a job, never carries it: what was asked for is in the job store, the image in the bucket or in Redis."""

    job_id: str
    request_id: str

    @classmethod
    def about(cls, request: JobRequest) -> Self:
        return cls(job_id=request.id, request_id=request.request_id)

    def to_wire(self) -> dict[str, str]:
        return asdict(self)

    def to_celery(self, queue: str) -> bytes:
        """Return the task message (protocol 2) in the envelope of kombu's Redis transport, as it stands in the list.

        That both would write the same is tested: what they take to do it is a good part of a short job's life, and
        a list entry of our own can be written in one step with what it speaks of.
        """
        task_id = str(uuid.uuid4())
        nothing_follows = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        body = orjson.dumps([[self.to_wire()], {}, nothing_follows])
        return orjson.dumps(
            {
                "body": base64.b64encode(body).decode(),
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": {
                    "lang": "py",
                    "task": SEGMENT_TASK,
                    "id": task_id,
                    "root_id": task_id,
                    "retries": 0,
                    "timelimit": [None, None],
                    # What the message holds is in the log already.
                    "argsrepr": "",
                    "kwargsrepr": "",
                    "ignore_result": True,
                },
                "properties": {
                    "correlation_id": task_id,
                    "delivery_mode": 2,
                    "delivery_info": {"exchange": "", "routing_key": queue},
                    "priority": 0,
                    "body_encoding": "base64",
                    "delivery_tag": str(uuid.uuid4()),
                },
            }
        )

    @classmethod
    def from_wire(cls, wire: Mapping[str, str]) -> Self:
        # Fields that a newer gateway added are ignored, so either side may be deployed first.
        return cls(**{name: wire[name] for name in cls.__dataclass_fields__})
