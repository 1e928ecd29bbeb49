"""The wire form of queues, and of a model's last hour."""

from typing import Self

from pydantic import BaseModel, Field

from shared.jobs.activity import Minute, QueueDepth
from shared.jobs.model import Priority
from shared.rfc3339 import Timestamp


class QueueView(BaseModel):
    """The jobs of one model and priority that wait."""

    priority: Priority
    queued: int = Field(description="Jobs that a worker can claim now.")
    suspects: int = Field(description="Of these, jobs that have stalled, and are run alone.")
    delayed: int = Field(description="Jobs that were given back, and wait for their next attempt.")
    oldest_seconds: float | None = Field(description="Age of the oldest job that can be claimed; null without one.")

    @classmethod
    def of(cls, depth: QueueDepth, now: float) -> Self:
        return cls(
            priority=depth.priority,
            queued=depth.queued,
            suspects=depth.suspects,
            delayed=depth.delayed,
            oldest_seconds=None if depth.oldest_at is None else round(max(0.0, now - depth.oldest_at), 3),
        )


class MinuteView(BaseModel):
    """The jobs that ended in one minute."""

    at: Timestamp = Field(description="Begin of the minute.")
    succeeded: int
    failed: int
    canceled: int
    expired: int
    errors: dict[str, int] = Field(description="Failed and expired jobs by `error_type`.")
    images: int = Field(description="Images that were on a device.")
    device_ms: int = Field(description="Milliseconds of the device for these images.")
    mean_batch_size: float | None

    @classmethod
    def of(cls, minute: Minute) -> Self:
        return cls(
            at=minute.at,
            errors=dict(minute.errors),
            images=minute.images,
            device_ms=minute.device_ms,
            mean_batch_size=minute.mean_batch_size,
            **{state.value: count for state, count in minute.ended.items()},
        )


class ModelQueueView(BaseModel):
    """The queues of a model, and its last hour."""

    model: str
    queues: list[QueueView]
    ready_workers: int
    images_per_second: float | None = Field(
        description="Jobs that the workers complete in a second while they have enough; null if it was not measured."
    )
    last_hour: list[MinuteView] = Field(description="By minute, the present one last.")


class RendererView(BaseModel):
    """The renderers, which make formats after the end of a job, and recuts."""

    is_alive: bool = Field(description="Whether one has reported of late; without one, what it makes is a 503 at once.")
    queued: int = Field(description="Calls that wait for one.")


class QueueListView(BaseModel):
    models: list[ModelQueueView]
    renderer: RendererView
