"""A tenant's webhooks: endpoints, their secrets, and what was delivered to them.

An endpoint of another tenant is answered like one that does not exist.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from shared.errors import BadParameter, QueueFull, UnknownWebhook, WebhookDisabled
from shared.outgoing.policy import OutgoingPolicy, check_url
from shared.webhooks.delivery import Delivery, Target
from shared.webhooks.delivery_store import DeliveryStore
from shared.webhooks.endpoint import PING, Endpoint, JobEvent, SigningSecret, is_endpoint_id, new_endpoint_id
from shared.webhooks.endpoint_store import EndpointStore
from shared.webhooks.signatures import build_message_id, new_secret

log = structlog.get_logger()

# An old secret stays valid for so long after a rotation: messages are signed with both.
ROTATION_SECONDS: Final = 24 * 3600.0
# Older ones end with the next rotation; each costs a signature a message.
MAX_SECRETS: Final = 3
BY_TENANT: Final = "It was disabled by its owner."


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """max_endpoints: of one tenant.  allows_urls: whether a job may name a URL."""

    policy: OutgoingPolicy
    max_endpoints: int
    allows_urls: bool


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """What a tenant wants of an endpoint."""

    url: str
    events: tuple[JobEvent, ...] = tuple(JobEvent)
    all_jobs: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class TenantWebhooks:
    """The webhooks of one tenant.  Each method may raise Unavailable.

    now: unix seconds by the clock of Redis.
    """

    tenant: str
    endpoints: EndpointStore
    deliveries: DeliveryStore
    rules: WebhookRules
    now: Callable[[], float]

    def create(self, wanted: NewEndpoint) -> Endpoint:
        """Store a new endpoint; its secret is in it, and is not shown again.

        Raises:
            ForbiddenUrl: its URL is not one that this service calls.
            TooManyWebhooks: the tenant has as many as it may.
        """
        check_url(wanted.url, self.rules.policy)
        now = self.now()
        endpoint = Endpoint(
            id=new_endpoint_id(now),
            tenant=self.tenant,
            url=wanted.url,
            secrets=(SigningSecret(new_secret()),),
            created_at=now,
            events=wanted.events,
            all_jobs=wanted.all_jobs,
            description=wanted.description,
        )
        self.endpoints.create(endpoint, max_endpoints=self.rules.max_endpoints)
        log.info("webhook_created", webhook_id=endpoint.id)
        return endpoint

    def get(self, endpoint_id: str) -> Endpoint:
        """Return an endpoint.

        Raises:
            UnknownWebhook: the tenant has none of this id.
        """
        return self.endpoints.get(self.tenant, endpoint_id)

    def list_all(self) -> Sequence[Endpoint]:
        """Return all endpoints, oldest first."""
        return self.endpoints.list_all(self.tenant)

    def rotate_secret(self, endpoint_id: str) -> Endpoint:
        """Give an endpoint a new secret; messages are signed with the old one, too, for ROTATION_SECONDS.

        Raises:
            UnknownWebhook: the tenant has none of this id.
        """
        log.info("webhook_secret_rotated", webhook_id=endpoint_id[:64])
        return self.endpoints.edit(self.tenant, endpoint_id, self._rotate)

    def _rotate(self, endpoint: Endpoint) -> Endpoint:
        now = self.now()
        old = [
            replace(one, expires_at=one.expires_at or now + ROTATION_SECONDS)
            for one in endpoint.secrets
            if one.expires_at is None or one.expires_at > now
        ]
        return replace(endpoint, secrets=(SigningSecret(new_secret()), *old)[:MAX_SECRETS])

    def disable(self, endpoint_id: str) -> Endpoint:
        """Send nothing to an endpoint any more; what is pending is dropped.

        Raises:
            UnknownWebhook: the tenant has none of this id.
        """

        def change(endpoint: Endpoint) -> Endpoint:
            if endpoint.disabled_reason is not None:
                return endpoint
            return replace(endpoint, disabled_at=self.now(), disabled_reason=BY_TENANT)

        return self.endpoints.edit(self.tenant, endpoint_id, change)

    def enable(self, endpoint_id: str) -> Endpoint:
        """Send the ends of further jobs to an endpoint again.

        Raises:
            UnknownWebhook: the tenant has none of this id.
        """
        return self.endpoints.edit(
            self.tenant, endpoint_id, lambda endpoint: replace(endpoint, disabled_at=None, disabled_reason=None)
        )

    def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint and its deliveries.

        Raises:
            UnknownWebhook: the tenant has none of this id.
        """
        self.endpoints.delete(self.tenant, endpoint_id)
        self.deliveries.forget(self._get_target(endpoint_id))
        log.info("webhook_deleted", webhook_id=endpoint_id)

    def ping(self, endpoint_id: str) -> Delivery:
        """Send a test message.

        Raises:
            UnknownWebhook: the tenant has none of this id.
            WebhookDisabled: it is disabled.
            QueueFull: too many messages wait for it.
        """
        target, now = self._find_enabled(endpoint_id), self.now()
        message_id = build_message_id(PING, new_endpoint_id(now).removeprefix("wh_"))
        if self.deliveries.plan(message_id, PING, [target], occurred_at=now):
            raise QueueFull("Too many messages of this webhook are pending.", limit=self.deliveries.max_pending)
        return self.deliveries.get(target, message_id)

    def list_deliveries(self, endpoint_id: str, *, limit: int) -> Sequence[Delivery]:
        """Return the latest deliveries, newest first.

        Raises:
            UnknownWebhook: the tenant has none of this id.
        """
        return self.deliveries.list_newest(self._get_target(self.get(endpoint_id).id), limit=limit)

    def redeliver(self, endpoint_id: str, message_id: str) -> Delivery:
        """Send a message again, with the same id.

        Raises:
            UnknownWebhook: the tenant has none of this id.
            UnknownDelivery: the webhook has no such message, or it is not kept any more.
            WebhookDisabled: it is disabled.
        """
        return self.deliveries.redeliver(self._find_enabled(endpoint_id), message_id)

    def check_webhook(self, webhook: str) -> None:
        """Check what a job names as its webhook, before it is submitted.

        Raises:
            BadParameter: it is neither an endpoint of the tenant, nor a URL where URLs are allowed.
            ForbiddenUrl: it is a URL that this service does not call.
        """
        if is_endpoint_id(webhook):
            self._check_endpoint(webhook)
        elif not self.rules.allows_urls:
            raise BadParameter("webhook must be the id of a webhook, as /v1/webhooks lists them; URLs are not allowed.")
        else:
            check_url(webhook, self.rules.policy)

    def _check_endpoint(self, endpoint_id: str) -> None:
        try:
            self.get(endpoint_id)
        except UnknownWebhook:
            raise BadParameter(f"webhook names {endpoint_id}, and you have no webhook of this id.") from None

    def _find_enabled(self, endpoint_id: str) -> Target:
        endpoint = self.get(endpoint_id)
        if endpoint.disabled_reason is not None:
            raise WebhookDisabled(f"This webhook is disabled; enable it first. {endpoint.disabled_reason}")
        return self._get_target(endpoint.id)

    def _get_target(self, endpoint_id: str) -> Target:
        return Target(self.tenant, endpoint_id)
