"""Webhooks of a steward: their duties, built from its settings and its stores."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry

from shared.jobs.store import JobStore
from shared.outgoing.client import GuardedClient
from shared.redis_client import RedisClient
from shared.storage.bucket import Bucket
from shared.webhooks.delivery_store import Breaker, DeliveryStore, EndedJob
from shared.webhooks.endpoint_store import EndpointCache, EndpointStore
from shared.webhooks.urls import build_webhook_policy
from worker.settings import StewardSettings
from worker.steward.duties import Duty
from worker.steward.job_ends import JobEnds
from worker.steward.metrics import WebhookCollector, WebhookMetrics
from worker.steward.stack_guard import StackGuard
from worker.steward.webhook_delivery import Sender, WebhookDelivery
from worker.steward.webhook_disabling import EndpointDisabler
from worker.steward.webhook_erasure import WebhookErasure
from worker.steward.webhook_planner import WebhookPlanner
from worker.steward.webhook_policy import RetryPolicy
from worker.steward.webhook_threads import DeliveryThreads

# The delay of a message is half of it on average.
PLAN_INTERVAL_SECONDS: Final = 0.25
# Of repetitions and test messages: they are sent as soon as they are planned.
SEND_INTERVAL_SECONDS: Final = 1.0
RESTORE_INTERVAL_SECONDS: Final = 5.0
# After the timeout of a request, for what is read and written beside it.
LEASE_MARGIN_SECONDS: Final = 5.0
# A receiver that does not answer holds no more threads.
MAX_OF_TARGET: Final = 4


@dataclass(frozen=True, slots=True)
class Webhooks:
    """planner and threads may run in several stewards at once."""

    endpoints: EndpointStore
    planner: WebhookPlanner
    threads: DeliveryThreads
    erasure: WebhookErasure

    def find_loss(self) -> bool:
        """Tell whether Redis has to be told which tenants have endpoints, as after it has lost its data."""
        return not self.endpoints.are_all_known()

    def restore_tenants(self, _is_lost: bool = True) -> None:
        self.endpoints.restore_tenants()

    def plan_and_send(self, ended: Sequence[EndedJob]) -> None:
        """Make the deliveries of jobs that have ended, and begin to send them.

        Raises:
            Unavailable: a store did not answer.
        """
        self.planner.plan_deliveries(ended)
        self.threads.send_due()

    def list_duties(self, guard: StackGuard) -> Sequence[Duty]:
        return (
            Duty("restore_webhooks", RESTORE_INTERVAL_SECONDS, self.restore_tenants, guard.require(self.find_loss)),
            Duty(
                "plan_webhooks",
                PLAN_INTERVAL_SECONDS,
                self.plan_and_send,
                self.planner.find_ended,
                has_lease=False,
            ),
            Duty("send_webhooks", SEND_INTERVAL_SECONDS, self.threads.send_due, has_lease=False),
        )


def build_webhooks(
    settings: StewardSettings,
    client: RedisClient,
    jobs: JobStore,
    bucket: Bucket,
    registry: CollectorRegistry,
    *,
    sender: Sender | None = None,
    policy: RetryPolicy | None = None,
    breaker: Breaker | None = None,
    lease_seconds: float | None = None,
) -> Webhooks:
    """Return the webhooks of a steward.

    Args:
        sender, policy, breaker, lease_seconds: by default those of the settings.
    """
    deliveries = DeliveryStore(client, max_pending=settings.max_pending_webhooks, breaker=breaker)
    endpoints, ends, metrics = EndpointStore(client, bucket), JobEnds(jobs, bucket), WebhookMetrics(registry)
    registry.register(WebhookCollector(deliveries.measure))
    cache = EndpointCache(endpoints)
    delivery = WebhookDelivery(
        deliveries,
        cache,
        ends,
        sender or GuardedClient(build_webhook_policy(settings)),
        EndpointDisabler(endpoints, metrics, jobs.clock.now),
        metrics,
        policy or RetryPolicy(settings.webhook_retry_seconds),
        settings.webhook_timeout_seconds,
        settings.public_url,
        jobs.clock.now,
    )
    threads = build_threads(settings, deliveries, delivery, lease_seconds)
    planner = WebhookPlanner(deliveries, cache, ends, metrics)
    return Webhooks(endpoints, planner, threads, WebhookErasure(endpoints, deliveries))


def build_threads(
    settings: StewardSettings, deliveries: DeliveryStore, delivery: WebhookDelivery, lease_seconds: float | None
) -> DeliveryThreads:
    claim = partial(
        deliveries.claim,
        lease_seconds=lease_seconds or settings.webhook_timeout_seconds + LEASE_MARGIN_SECONDS,
        max_of_target=MAX_OF_TARGET,
        max_of_tenant=max(1, settings.webhook_threads // 2),
    )
    return DeliveryThreads(lambda limit: claim(limit=limit), delivery.attempt, threads=settings.webhook_threads)
