"""Admission: the checks before anything is stored.  A rejected submission stores nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from api.jobs.load import Load, LoadMonitor, clamp_retry_after
from api.jobs.references import InputReference, UrlReference
from api.jobs.upload import Upload
from api.model_registry import ModelRegistry, ModelStatus
from shared.errors import NotPermitted, QueueFull, StoreFull, WaitTooLong
from shared.jobs.format_options import FormatOptions
from shared.jobs.inspection import inspect_image
from shared.jobs.messages import queue_name
from shared.jobs.model import ImageFacts, InputRef, JobRequest, Priority, Retention, UrlInput
from shared.jobs.parameters import SegmentParameters
from shared.jobs.store import JobStore, QueueLimits


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant that sent a request, and the id of the request in the logs.

    max_priority: the highest priority that its token allows.
    models: those that its token allows; empty: all.
    """

    tenant: str
    request_id: str
    max_priority: Priority = Priority.INTERACTIVE
    models: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The wishes of a caller for a job, beside how to segment; the members are those of JobRequest.

    priority: None: that of the JobProfile.
    deadline_seconds: from now until the job must have ended; None: that of the JobProfile.
    """

    priority: Priority | None = None
    deadline_seconds: float | None = None
    client_id: str | None = None
    labels: tuple[str, ...] = ()
    format_options: FormatOptions = field(default_factory=FormatOptions)
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    webhook: str | None = None
    keeps_all_queries: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """The content of a submission: an image, the parameters, the model (None: the default model) and the formats.

    image: or what names one.
    formats: names from the registry, in its order; None: those of the JobProfile.
    """

    image: Upload | InputReference
    parameters: SegmentParameters
    model: str | None = None
    formats: tuple[str, ...] | None = None
    options: JobOptions = field(default_factory=JobOptions)

    def require_upload(self) -> Upload:
        """Return the image that was sent.

        Raises:
            ValueError: it was only named.
        """
        if not isinstance(self.image, Upload):
            raise ValueError("the image of the submission is only named")
        return self.image


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
class LoadLimits:
    """How much load is accepted.

    queue: of one queue, and the quotas of a tenant.
    sync_wait_seconds: work that may be before a synchronous request.
    sync_wait_seconds_per_tenant: of that, work of the tenant of the request.
    memory_share: of Redis' maxmemory, in (0, 1].
    """

    queue: QueueLimits
    sync_wait_seconds: float
    sync_wait_seconds_per_tenant: float
    memory_share: float


@dataclass(frozen=True, slots=True)
class Admission:
    """The limits of one gateway.

    `new_id` generates job ids, `now` returns unix seconds by the clock of Redis, `check_stores` raises Unavailable if
    nothing may be stored.
    """

    models: ModelRegistry
    jobs: JobStore
    load: LoadMonitor
    limits: LoadLimits
    max_image_pixels: int
    max_image_side: int
    new_id: Callable[[], str]
    now: Callable[[], float]
    check_stores: Callable[[], None]

    def admit(self, submission: Submission, caller: Caller, profile: JobProfile) -> Admitted:
        """Check a submission before anything is stored for it, and return the request of its job.

        The load is checked before the image, so that a refusal costs little.

        Raises:
            ClientError: the image, the model or a label is not acceptable.
            NotPermitted: the caller's token does not allow the model or the priority.
            Overloaded: there is too much work already.
            Unavailable: Redis did not answer, or nothing may be stored.
        """
        self.check_stores()
        model = self.models.find(submission.model)
        check_permission(submission, model.id, caller)
        self.models.check_labels(submission.options.labels, model)
        profile = limit_priority(apply_options(profile, submission.options), caller)
        image_bytes = len(submission.image.content) if isinstance(submission.image, Upload) else 0
        self._check_load(model, caller, profile, image_bytes)
        return Admitted(self._build_request(submission, caller, profile, model, self._inspect(submission.image)), model)

    def _inspect(self, image: Upload | InputReference) -> ImageFacts | None:
        """Return the facts of an image; None of one that this process does not have, which its worker inspects."""
        if not isinstance(image, Upload):
            return None
        return inspect_image(image.content, max_pixels=self.max_image_pixels, max_side=self.max_image_side)

    def admit_again(self, request: JobRequest, caller: Caller) -> Priority:
        """Check that a job like one that has ended may be created; its image is not inspected again.

        Another token of the tenant may have submitted that one.

        Returns:
            the priority of the new job: the same, or the highest that the caller's token allows.

        Raises:
            UnknownModel: no worker serves its model any more.
            NotPermitted: the caller's token does not allow the model.
            Overloaded: there is too much work already.
            Unavailable: Redis did not answer, or nothing may be stored.
        """
        self.check_stores()
        model = self.models.find(request.model)
        check_model(model.id, caller)
        profile = JobProfile(request.priority, request.input, request.formats, request.retention)
        profile = limit_priority(profile, caller)
        self._check_load(model, caller, profile, request.image.bytes if request.image else 0)
        return profile.priority

    def _build_request(
        self, submission: Submission, caller: Caller, profile: JobProfile, model: ModelStatus, image: ImageFacts | None
    ) -> JobRequest:
        now, options = self.now(), submission.options
        return JobRequest(
            id=self.new_id(),
            tenant=caller.tenant,
            model=model.id,
            parameters=submission.parameters,
            image=image,
            input=UrlInput(submission.image.url) if isinstance(submission.image, UrlReference) else profile.input,
            priority=profile.priority,
            formats=submission.formats or profile.formats,
            retention=profile.retention,
            created_at=now,
            request_id=caller.request_id,
            deadline_at=None if profile.deadline_seconds is None else now + profile.deadline_seconds,
            wants_reply=profile.wants_reply,
            client_id=options.client_id,
            labels=options.labels,
            format_options=options.format_options,
            metadata=options.metadata,
            webhook=options.webhook,
            keeps_all_queries=options.keeps_all_queries,
        )

    def has_memory(self) -> bool:
        """Return whether Redis has memory for new work.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        return not self._is_memory_short(self.load.read(self.models.find(None)))

    def _is_memory_short(self, load: Load) -> bool:
        return load.memory_share > self.limits.memory_share

    def _check_load(self, model: ModelStatus, caller: Caller, profile: JobProfile, image_bytes: int) -> None:
        load = self.load.read(model)
        if self._is_memory_short(load):
            raise StoreFull("The job store has too little memory left for new work; try again in a minute.")
        if profile.wants_reply:
            self._check_wait(load, profile.priority)
            self._check_own_wait(load, model, caller.tenant, profile.priority)
        else:
            self._check_queue(load, queue_name(model.id, profile.priority), caller.tenant, image_bytes)

    def _check_wait(self, load: Load, priority: Priority) -> None:
        """Raise WaitTooLong if the work before a synchronous request takes longer than its caller may be held."""
        wait, most = load.estimate_wait(priority), self.limits.sync_wait_seconds
        if wait > most:
            raise WaitTooLong(
                f"There is work for {wait:.0f} s before this request, and a caller is held for {most:g} s at most; "
                "try again later, or submit the image as a job, at /v1/jobs.",
                retry_after_seconds=clamp_retry_after(wait - most),
            )

    def _check_own_wait(self, load: Load, model: ModelStatus, tenant: str, priority: Priority) -> None:
        """Raise WaitTooLong if the work of the tenant alone is more than its part, so that others find room.

        The jobs of the tenant are counted only if there is that much work at all.
        """
        wait, most = load.estimate_wait(priority), self.limits.sync_wait_seconds_per_tenant
        if wait <= most:
            return
        count = max(1, int(load.count_completed(priority, most)))
        try:
            self.jobs.queues.check_bounds(queue_name(model.id, priority), tenant, QueueLimits(jobs_per_tenant=count))
        except QueueFull as error:
            raise WaitTooLong(
                f"Your own requests are work for more than {most:g} s, the part of one tenant; "
                "send more when some of them are answered, or submit the image as a job, at /v1/jobs.",
                retry_after_seconds=clamp_retry_after(wait - most),
            ) from error

    def _check_queue(self, load: Load, queue: str, tenant: str, image_bytes: int) -> None:
        """Raise QueueFull or QuotaExceeded if a bound is reached; creating the job checks it again, atomically."""
        try:
            self.jobs.queues.check_bounds(queue, tenant, self.limits.queue, image_bytes=image_bytes)
        except QueueFull as error:
            # When a tenth of the queue has been completed.
            seconds = load.estimate_seconds(error.limit / 10)
            raise QueueFull(str(error), limit=error.limit, retry_after_seconds=seconds) from error


def check_permission(submission: Submission, model: str, caller: Caller) -> None:
    """Check a submission against what the caller's token allows.

    Raises:
        NotPermitted: it does not allow the model or the priority.
    """
    check_model(model, caller)
    wanted = submission.options.priority
    if wanted is not None and rank(wanted) < rank(caller.max_priority):
        raise NotPermitted(f"This token may not submit with priority {wanted}; its highest is {caller.max_priority}.")


def check_model(model: str, caller: Caller) -> None:
    """Raise NotPermitted if the caller's token does not allow a model."""
    if caller.models and model not in caller.models:
        raise NotPermitted(f"This token may not use the model {model}; it may use {', '.join(sorted(caller.models))}.")


def limit_priority(profile: JobProfile, caller: Caller) -> JobProfile:
    """Return a profile of at most the priority that the caller's token allows."""
    return replace(profile, priority=max(profile.priority, caller.max_priority, key=rank))


def rank(priority: Priority) -> int:
    """Return the place of a priority among all; 0 is the highest."""
    return list(Priority).index(priority)


def apply_options(profile: JobProfile, options: JobOptions) -> JobProfile:
    """Return the profile of a job whose caller has these wishes."""
    return replace(
        profile,
        priority=options.priority or profile.priority,
        deadline_seconds=profile.deadline_seconds if options.deadline_seconds is None else options.deadline_seconds,
    )
