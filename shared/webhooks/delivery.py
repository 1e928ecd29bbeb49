"""A delivery: one message for one target, and what became of it.  No Redis here."""

import hashlib
from dataclasses import dataclass
from typing import Final

from shared.webhooks.endpoint import is_endpoint_id
from shared.webhooks.outcomes import DeliveryState

_URL_PREFIX: Final = "url_"


@dataclass(frozen=True, slots=True)
class Target:
    """To whom messages are sent: an endpoint of a tenant, or a URL that jobs of the tenant name.

    name: the id of the endpoint, or a digest of the URL, so that no URL is part of a key.
    """

    tenant: str
    name: str

    @classmethod
    def of_webhook(cls, tenant: str, webhook: str) -> "Target":
        """Return the target of what a job names."""
        if is_endpoint_id(webhook):
            return cls(tenant, webhook)
        return cls(tenant, _URL_PREFIX + hashlib.sha256(webhook.encode()).hexdigest()[:32])

    @classmethod
    def parse(cls, text: str) -> "Target":
        tenant, _, name = text.partition("/")
        return cls(tenant, name)

    @property
    def is_url(self) -> bool:
        return self.name.startswith(_URL_PREFIX)

    def __str__(self) -> str:
        return f"{self.tenant}/{self.name}"


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """The right to make one attempt of a delivery, for as long as its lease lasts.

    job_id: empty for a ping.  attempt: counted from 1.
    occurred_at: when the event happened.  since: when the first attempt of this series was due.
    now: the time of the claim.  All times are unix seconds by the clock of Redis.
    """

    target: Target
    message_id: str
    job_id: str
    event: str
    occurred_at: float
    since: float
    attempt: int
    now: float
    token: str


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """What an attempt has come to.

    state: of the delivery from now on.  status: of the answer.  error: one sentence, if it was not delivered.
    delay_seconds: until the next attempt, if it is pending.
    is_failure: whether the target is to blame.  block_seconds: for how long it asked to be left alone.
    """

    state: DeliveryState
    status: int | None = None
    error: str | None = None
    delay_seconds: float = 0.0
    is_failure: bool = False
    block_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as its tenant sees it.

    due_at: when it is attempted next; None while an attempt runs, and when it is over.
    """

    message_id: str
    job_id: str
    event: str
    state: DeliveryState
    attempts: int
    created_at: float
    attempted_at: float | None = None
    due_at: float | None = None
    is_running: bool = False
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class WebhookLoad:
    """outbox_age_seconds: since the end of the first job whose deliveries are not planned; 0 without one.

    due_age_seconds: since the first delivery was due.  targets: with pending deliveries.  running: deliveries.
    """

    outbox_age_seconds: float
    due_age_seconds: float
    targets: int
    running: int
