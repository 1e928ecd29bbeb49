"""Disabling endpoints whose receivers are gone."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from shared.errors import UnknownWebhook
from shared.webhooks.delivery import Target
from shared.webhooks.endpoint import Endpoint
from shared.webhooks.endpoint_store import EndpointStore
from worker.steward.metrics import WebhookMetrics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EndpointDisabler:
    endpoints: EndpointStore
    metrics: WebhookMetrics
    now: Callable[[], float]

    def disable(self, target: Target, reason: str) -> None:
        """Disable an endpoint, unless it is disabled; nothing of a URL.

        Raises:
            Unavailable: a store did not answer.
        """
        if target.is_url:
            return

        def change(endpoint: Endpoint) -> Endpoint:
            if endpoint.disabled_reason is not None:
                return endpoint
            log.warning("webhook_disabled", webhook_id=endpoint.id, tenant=endpoint.tenant, reason=reason)
            self.metrics.endpoint_disabled()
            return replace(endpoint, disabled_at=self.now(), disabled_reason=reason)

        try:
            self.endpoints.edit(target.tenant, target.name, change)
        except UnknownWebhook:
            # It was deleted meanwhile.
            return
