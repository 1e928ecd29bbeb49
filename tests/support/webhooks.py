"""The webhooks of a steward inside the test's process, with short delays, and jobs that end without a worker."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from shared.jobs.completion import complete_job
from shared.jobs.ids import new_job_id
from shared.jobs.model import Failure, JobRequest, JobState
from shared.jobs.result import JobResult
from shared.jobs.store import JobStore, open_job_store
from shared.redis_client import connect
from shared.storage.bucket import Bucket, open_bucket
from shared.webhooks.delivery import Delivery, Target
from shared.webhooks.delivery_store import Breaker, DeliveryStore
from shared.webhooks.endpoint import Endpoint, JobEvent, SigningSecret, new_endpoint_id
from shared.webhooks.endpoint_store import EndpointStore
from shared.webhooks.outcomes import DeliveryState
from shared.webhooks.signatures import build_message_id, new_secret
from tests.support.jobs import build_request, store_input
from tests.support.periodic import run_periodically
from tests.support.receiver import Receiver
from worker.settings import StewardSettings
from worker.steward.webhook_policy import RetryPolicy
from worker.steward.webhooks import Webhooks, build_webhooks

# As by default, but a hundred times as fast.
POLICY = RetryPolicy(total_seconds=30.0, first_delay_seconds=0.05, max_delay_seconds=0.5, max_retry_after_seconds=2.0)
BREAKER = Breaker(failures=5, seconds=0.05, max_seconds=0.3)
# Receivers of tests are on loopback, which is forbidden by default.
LOOPBACK = {"webhook_http": "on", "outgoing_allowed": "127.0.0.0/8"}


@dataclass(frozen=True)
class WebhookLab:
    """The stores of one tenant's webhooks, and what a gateway and a worker do with them."""

    settings: StewardSettings
    jobs: JobStore
    bucket: Bucket
    endpoints: EndpointStore
    deliveries: DeliveryStore
    tenant: str = "public"

    def add_endpoint(self, receiver: Receiver, **changes: Any) -> Endpoint:
        """Register a receiver, and tell it its secret."""
        now = self.jobs.clock.now()
        fields: dict[str, Any] = {"all_jobs": True, "url": receiver.url, **changes}
        endpoint = Endpoint(
            id=new_endpoint_id(now),
            tenant=fields.pop("tenant", self.tenant),
            secrets=(SigningSecret(new_secret()),),
            created_at=now,
            **fields,
        )
        self.endpoints.create(endpoint, max_endpoints=100)
        receiver.secret = endpoint.secrets[0].text
        return endpoint

    def submit(self, **changes: Any) -> JobRequest:
        """Record a job as a gateway does."""
        request = build_request(id=new_job_id(self.jobs.clock.now()), tenant=self.tenant, **changes)
        store_input(self.bucket, request)
        self.jobs.create(request)
        return request

    def end(self, request: JobRequest, state: JobState = JobState.SUCCEEDED) -> str:
        """End a job as a worker does; return the id of its message."""
        failure = Failure("engine_failed", "The model failed.") if state is JobState.FAILED else None
        complete_job(JobResult(request, state, failure=failure), jobs=self.jobs, bucket=self.bucket)
        return build_message_id(JobEvent.of(state), request.id)

    def run_job(self, state: JobState = JobState.SUCCEEDED, **changes: Any) -> str:
        """Submit a job and end it; return the id of its message."""
        return self.end(self.submit(**changes), state)

    def get_delivery(self, endpoint: Endpoint, message_id: str) -> Delivery:
        return self.deliveries.get(Target(endpoint.tenant, endpoint.id), message_id)

    def get_state(self, endpoint: Endpoint, message_id: str) -> DeliveryState:
        return self.get_delivery(endpoint, message_id).state

    def read_endpoint(self, endpoint: Endpoint) -> Endpoint:
        return self.endpoints.get(endpoint.tenant, endpoint.id)

    @contextmanager
    def run_steward(self, **options: Any) -> Iterator[CollectorRegistry]:
        """Run the duties of webhooks while the block runs; yield the metrics."""
        registry = CollectorRegistry()
        webhooks = build_lab_webhooks(self.settings, registry, **options)
        with run_periodically(lambda: run_duties(webhooks), interval_seconds=0.02):
            yield registry
        webhooks.threads.stop()


def open_lab(redis_url: str, storage: dict[str, Any], tenant: str = "public") -> WebhookLab:
    """Return a lab over stores of the test."""
    settings = StewardSettings(redis_url=redis_url, **storage, **LOOPBACK)
    client, bucket = connect(settings), open_bucket(settings)
    return WebhookLab(
        settings,
        open_job_store(client, settings),
        bucket,
        EndpointStore(client, bucket),
        DeliveryStore(client, max_pending=settings.max_pending_webhooks),
        tenant,
    )


def build_lab_webhooks(settings: StewardSettings, registry: CollectorRegistry, **options: Any) -> Webhooks:
    client, bucket = connect(settings), open_bucket(settings)
    defaults: dict[str, Any] = {"policy": POLICY, "breaker": BREAKER}
    jobs = open_job_store(client, settings)
    return build_webhooks(settings, client, jobs, bucket, registry, **{**defaults, **options})


def run_duties(webhooks: Webhooks) -> None:
    """Run each duty once."""
    if webhooks.find_loss():
        webhooks.restore_tenants()
    webhooks.planner.plan_deliveries(webhooks.planner.find_ended())
    webhooks.threads.send_due()
