"""What the routes need, built once by api/wsgi.py and handed to create_app()."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from api.http.authentication import Authenticator
from api.inference.model_registry import ModelRegistry
from api.jobs.compensation import Compensator
from api.metrics import FleetCollector, GatewayMetrics
from shared.jobs.events import JobEvents
from shared.jobs.payloads import PayloadStore
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken, and how long a caller may be held; see ApiSettings for each."""

    max_image_pixels: int
    max_queued: int
    max_waiting_seconds: float
    sync_deadline_seconds: float
    cold_start_seconds: float
    ready_timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators of the use cases.

    `new_id` names jobs, `now` gives unix seconds, and `checks` raise Unavailable when what they are named for is away.
    """

    authenticator: Authenticator
    jobs: JobStore
    bucket: Bucket
    payloads: PayloadStore
    events: JobEvents
    model_registry: ModelRegistry
    compensator: Compensator
    metrics: GatewayMetrics
    fleet: FleetCollector
    limits: Limits
    new_id: Callable[[], str]
    now: Callable[[], float]
    checks: Mapping[str, Callable[[], object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and the id under which the log knows this request."""

    tenant: str
    request_id: str
