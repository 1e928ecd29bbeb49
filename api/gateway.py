"""The collaborators of the routes: the use cases and their dependencies.  Built once per process by api/wsgi.py."""

from collections.abc import Callable
from dataclasses import dataclass

from api.http.authentication import Authenticator
from api.http.rate import RequestRate
from api.inference.synchronous import SyncSegmenter
from api.jobs.drain import Drain
from api.jobs.eta import EtaEstimator
from api.jobs.limits import OptionLimits
from api.jobs.listing import TenantListing
from api.jobs.load import LoadMonitor
from api.jobs.queries import TenantJobs
from api.jobs.recut import Recutting
from api.jobs.redrive import JobRedriver
from api.jobs.rendering import RenderCalls
from api.jobs.submission import JobSubmitter
from api.jobs.uploads import Uploads
from api.jobs.waiting import WaitingSlots
from api.jobs.watching import EventStreams
from api.jobs.webhooks import TenantWebhooks
from api.metrics import FleetCollector, GatewayMetrics
from api.model_registry import ModelRegistry
from shared.jobs.activity import ModelActivity
from shared.jobs.erasure import Erasures
from shared.jobs.keeping import JobKeeper
from shared.jobs.store import QueueLimits
from shared.jobs.usage import UsageReader
from shared.readiness import ReadinessChecks
from shared.storage.signing import UrlSigner


@dataclass(frozen=True, slots=True)
class Gateway:
    """now: returns unix seconds by the clock of Redis."""

    authenticator: Authenticator
    submitter: JobSubmitter
    redriver: JobRedriver
    keeper: JobKeeper
    max_kept_seconds: int
    erasures: Erasures
    synchronous: SyncSegmenter
    open_tenant: Callable[[str], TenantJobs]
    open_listing: Callable[[str], TenantListing]
    open_webhooks: Callable[[str], TenantWebhooks]
    models: ModelRegistry
    readiness: ReadinessChecks
    metrics: GatewayMetrics
    fleet: FleetCollector
    slots: WaitingSlots
    uploads: Uploads
    drain: Drain
    rate: RequestRate
    usage: UsageReader
    activity: ModelActivity
    load: LoadMonitor
    quotas: QueueLimits
    now: Callable[[], float]
    option_limits: OptionLimits
    streams: EventStreams
    eta: EtaEstimator
    renders: RenderCalls
    recutting: Recutting
    signer: UrlSigner | None
