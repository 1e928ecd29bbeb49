"""What the routes need, built once by api/wsgi.py and handed to create_app()."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from api.auth import Gate
from api.leftovers import Leftovers
from api.metrics import FleetCollector, GatewayMetrics
from api.served import ServedModels
from shared.claim_check import ClaimCheck
from shared.job_events import JobEvents
from shared.job_store import JobStore
from shared.storage import Bucket


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

    gate: Gate
    jobs: JobStore
    bucket: Bucket
    claims: ClaimCheck
    events: JobEvents
    served: ServedModels
    leftovers: Leftovers
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
