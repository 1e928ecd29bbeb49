"""Admission: the checks before anything is stored.  A rejected submission stores nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from api.jobs.inspection import inspect_image
from api.model_registry import ModelRegistry, ModelStatus
from shared.errors import QueueFull
from shared.jobs.messages import queue_name
from shared.jobs.model import InputRef, JobRequest, Priority, Retention
from shared.jobs.parameters import SegmentParameters
from shared.jobs.store import JobStore


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant that sent a request, and the id of the request in the logs."""

    tenant: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Submission:
    """The content of a submission: an image, the parameters, the model (None: the default model) and the formats.

    formats: names from the registry, in its order; None: those of the JobProfile.
    """

    image: bytes
    parameters: SegmentParameters
    model: str | None = None
    formats: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class JobProfile:
    """The part of a job's request that depends on the route (asynchronous or synchronous), not on the caller.

    deadline_seconds: from now until the job must have finished; None: no deadline.
    """

    priority: Priority
    input: InputRef
    formats: tuple[str, ...]
    retention: Retention
    deadline_seconds: float | None = None
    wants_reply: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    request: JobRequest
    model: ModelStatus


@dataclass(frozen=True, slots=True)
class Admission:
    """The limits of one gateway.  `new_id` generates job ids, `now` returns unix seconds."""

    models: ModelRegistry
    jobs: JobStore
    max_image_pixels: int
    max_image_side: int
    max_queued: int
    new_id: Callable[[], str]
    now: Callable[[], float]

    def admit(self, submission: Submission, caller: Caller, profile: JobProfile) -> Admitted:
        """Check a submission before anything is stored for it, and return the request of its job.

        Raises:
            ClientError: the image or the model is not acceptable.
            Unavailable: Redis did not answer.
        """
        model = self.models.find(submission.model)
        image = inspect_image(submission.image, max_pixels=self.max_image_pixels, max_side=self.max_image_side)
        now = self.now()
        request = JobRequest(
            id=self.new_id(),
            tenant=caller.tenant,
            model=model.id,
            parameters=submission.parameters,
            image=image,
            input=profile.input,
            priority=profile.priority,
            formats=submission.formats or profile.formats,
            retention=profile.retention,
            created_at=now,
            request_id=caller.request_id,
            deadline_at=None if profile.deadline_seconds is None else now + profile.deadline_seconds,
            wants_reply=profile.wants_reply,
        )
        return Admitted(request, model)

    def check_queue(self, request: JobRequest) -> None:
        """Check the bound of the queue before anything is stored; creating the job checks it again, atomically.

        Raises:
            QueueFull: too many jobs are queued.
        """
        if self.jobs.backlog(queue_name(request.model, request.priority)) >= self.max_queued:
            raise QueueFull("Too many jobs are waiting; try again when some of them are done.", limit=self.max_queued)
