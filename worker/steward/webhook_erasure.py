"""Deletion of the webhooks of a tenant whose data are all deleted."""

from contextlib import suppress
from dataclasses import dataclass

from shared.errors import UnknownWebhook
from shared.webhooks.delivery import Target
from shared.webhooks.delivery_store import DeliveryStore
from shared.webhooks.endpoint_store import EndpointStore


@dataclass(frozen=True, slots=True)
class WebhookErasure:
    endpoints: EndpointStore
    deliveries: DeliveryStore

    def delete_webhooks(self, tenant: str, *, before: float) -> None:
        """Delete the endpoints of a tenant that were made before a time, unix seconds, and their deliveries.

        Raises:
            Unavailable: a store did not answer.
        """
        for endpoint in self.endpoints.list_all(tenant):
            if endpoint.created_at >= before:
                continue
            # It may be deleted by its tenant just now.
            with suppress(UnknownWebhook):
                self.endpoints.delete(tenant, endpoint.id)
            self.deliveries.forget(Target(tenant, endpoint.id))
