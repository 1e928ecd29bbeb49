"""The collaborators of the routes: the use cases and their dependencies.  Built once per process by api/wsgi.py."""

from collections.abc import Callable
from dataclasses import dataclass

from api.http.authentication import Authenticator
from api.inference.synchronous import SyncSegmenter
from api.jobs.drain import Drain
from api.jobs.queries import TenantJobs
from api.jobs.recut import Recutting
from api.jobs.rendering import RenderCalls
from api.jobs.submission import JobSubmitter
from api.jobs.waiting import WaitingSlots
from api.metrics import FleetCollector, GatewayMetrics
from api.model_registry import ModelRegistry
from shared.readiness import ReadinessChecks
from shared.storage.signing import UrlSigner


@dataclass(frozen=True, slots=True)
class Gateway:
    authenticator: Authenticator
    submitter: JobSubmitter
    synchronous: SyncSegmenter
    open_tenant: Callable[[str], TenantJobs]
    models: ModelRegistry
    readiness: ReadinessChecks
    metrics: GatewayMetrics
    fleet: FleetCollector
    slots: WaitingSlots
    drain: Drain
    renders: RenderCalls
    recutting: Recutting
    signer: UrlSigner | None
