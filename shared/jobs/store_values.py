"""The values that the job store takes and returns, beside the job itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.jobs.model import JobRequest, Priority
from shared.jobs.outcomes import CreateOutcome

UNBOUNDED = 2**53


@dataclass(frozen=True, slots=True)
class DedupKey:
    """Identifies what a job computes, so that identical requests are computed once.

    key: of the tenant, the image, the model's revision and the parameters.
    seconds: how long the job's result may be reused.
    reuse: whether an earlier job's result may be used; otherwise this job is created, for later ones to reuse.
    """

    key: str
    seconds: int
    reuse: bool = True


@dataclass(frozen=True, slots=True)
class InputPayload:
    """The image of a job whose input is in the payload store; written in the step that records the job.

    seconds: how long it is kept, unless the job ends before.
    max_bytes, max_bytes_per_tenant: of all payloads that are kept, this one included.
    """

    image: bytes
    seconds: float
    max_bytes: int = UNBOUNDED
    max_bytes_per_tenant: int = UNBOUNDED


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Bounds of a queue and of a tenant.

    jobs: in the queue, running ones not counted.
    jobs_per_tenant: of the tenant in the queue, running ones counted.
    bytes_per_tenant: of the images of the tenant's jobs that are not final, in all queues.
    pixels_per_day: of the images that the tenant submits on a day in UTC.
    """

    jobs: int = UNBOUNDED
    jobs_per_tenant: int = UNBOUNDED
    bytes_per_tenant: int = UNBOUNDED
    pixels_per_day: int = UNBOUNDED


NO_LIMITS = QueueLimits()


@dataclass(frozen=True, slots=True)
class Created:
    job_id: str
    outcome: CreateOutcome


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt of a job, for as long as its lease is renewed.

    attempt: number of claims of the job since Redis has its data.
    attempt_name: of this claim, unique for ever; the fencing token of the lease, and the folder of its objects.
    is_late: its deadline has passed, so that it has to be expired instead of run.
    is_recovered: its result may be stored already, because it was claimed before, or Redis lost it.
    is_watched: its events are streamed to a client.
    is_isolated: it is a suspect, a job that has stalled: JobStore.start_isolated() comes before it is run, alone.
    now: the time of Redis' answer, in unix seconds; of a repeated answer another one, so it is not compared.
    """

    request: JobRequest
    attempt: int
    attempt_name: str
    is_late: bool = False
    is_isolated: bool = False
    is_recovered: bool = False
    is_watched: bool = False
    now: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Renewal:
    """A lease that was renewed.  is_watched: as of a claim."""

    is_watched: bool


@dataclass(frozen=True, slots=True)
class LoadSnapshot:
    """The load of a model's workers at one moment.

    queued: jobs by priority.
    running: jobs of all models.
    completed: jobs of the model that workers have completed since Redis has its data.
    used_memory, max_memory: of Redis, in bytes; no limit is 0.
    """

    queued: Mapping[Priority, int]
    running: int
    completed: int
    used_memory: int
    max_memory: int


@dataclass(frozen=True, slots=True)
class TakenMessage:
    """The message that woke a worker.

    queue: from which it was taken.
    substitute: a message that is put back if the job that is claimed is of another queue.
    """

    queue: str
    substitute: str
