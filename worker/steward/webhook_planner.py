"""The outbox of webhooks: the ends of jobs become deliveries.

Several stewards may do so at once: a message is planned once for each of its targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from shared.webhooks.delivery import Target
from shared.webhooks.delivery_store import DeliveryStore, EndedJob
from shared.webhooks.endpoint import JobEvent
from shared.webhooks.endpoint_store import EndpointCache
from shared.webhooks.signatures import build_message_id
from worker.steward.job_ends import JobEnd, JobEnds
from worker.steward.metrics import WebhookMetrics

log = structlog.get_logger()

# Jobs whose deliveries are planned in one run.
PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class WebhookPlanner:
    """Turns the ends of jobs into deliveries."""

    deliveries: DeliveryStore
    endpoints: EndpointCache
    ends: JobEnds
    metrics: WebhookMetrics

    def find_ended(self) -> Sequence[EndedJob]:
        """Return the first jobs of the outbox.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        return self.deliveries.find_ended(limit=PAGE)

    def plan_deliveries(self, ended: Sequence[EndedJob]) -> None:
        """Make the deliveries of jobs; one that was planned already gets no others.

        Raises:
            Unavailable: a store did not answer; the next run continues.
        """
        for one in ended:
            self._plan(one)

    def _plan(self, one: EndedJob) -> None:
        end = self._read_end(one.job_id)
        event = JobEvent.of(end.state) if end else JobEvent.SUCCEEDED
        targets = self._choose_targets(end, event) if end else []
        message_id = build_message_id(event, one.job_id)
        full = self.deliveries.plan(message_id, event, targets, occurred_at=one.ended_at, job_id=one.job_id)
        for target in full:
            log.warning("webhook_dropped", reason="too_many_pending", job_id=one.job_id, webhook_id=target.name)
            self.metrics.delivery_dropped()

    def _read_end(self, job_id: str) -> JobEnd | None:
        try:
            return self.ends.read(job_id)
        except ValueError as error:
            log.error("job_unreadable", job_id=job_id, reason=type(error).__name__)
            return None

    def _choose_targets(self, end: JobEnd, event: JobEvent) -> list[Target]:
        request = end.request
        named = Target.of_webhook(request.tenant, request.webhook) if request.webhook else None
        targets = [named] if named and named.is_url else []
        for endpoint in self.endpoints.list_all(request.tenant):
            # Synchronous calls are answered already.
            is_wanted = endpoint.is_wanted(event, request.webhook)
            if is_wanted and (request.retention.is_listed or endpoint.id == request.webhook):
                targets.append(Target(request.tenant, endpoint.id))
        return targets
