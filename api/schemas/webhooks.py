"""The wire form of webhooks.  Secrets are in the answers to a creation and a rotation alone."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, StringConstraints

from api.schemas.query import Query
from shared.outgoing.policy import MAX_URL_CHARS
from shared.rfc3339 import Timestamp
from shared.webhooks.delivery import Delivery
from shared.webhooks.delivery_store import MAX_RECENT
from shared.webhooks.endpoint import Endpoint, JobEvent
from shared.webhooks.outcomes import DeliveryState

_WEBHOOK_ID = "^wh_[0-9a-f]{32}$"
_EXAMPLE_ID = "wh_0198f0c2a4b17d3e9c55e1f0a2b3c4d5"


class WebhookPath(BaseModel):
    webhook_id: str = Field(description="As the creation returned it.", json_schema_extra={"pattern": _WEBHOOK_ID})


class DeliveryPath(WebhookPath):
    delivery_id: str = Field(description="`id` of a delivery, which is also its `webhook-id`.")


class DeliveriesQuery(Query):
    limit: int = Field(50, ge=1, le=MAX_RECENT, description="Most deliveries in the answer.")


class NewWebhook(BaseModel):
    """What a webhook is to be."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"url": "https://shop.example/masks", "events": ["job.succeeded"]}]},
    )

    url: Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARS)] = Field(
        description="Where messages are sent, by POST; redirects are not followed."
    )
    events: list[JobEvent] | None = Field(
        None, min_length=1, max_length=len(JobEvent), description="Events that are sent; null: all."
    )
    all_jobs: Annotated[bool, Strict()] = Field(
        False, description="Send those of all your jobs of /v1/jobs; otherwise only of jobs that name this webhook."
    )
    description: Annotated[str, StringConstraints(max_length=200)] = Field("", description="For you alone.")


class WebhookView(BaseModel):
    """A webhook."""

    id: str = Field(examples=[_EXAMPLE_ID])
    url: str = Field(examples=["https://shop.example/masks"])
    events: list[JobEvent]
    all_jobs: bool
    description: str
    created_at: Timestamp
    is_enabled: bool
    disabled_at: Timestamp | None
    disabled_reason: str | None = Field(
        description="Why it gets nothing any more: you disabled it, its receiver answered with 410, or "
        "took nothing for a long time."
    )
    old_secret_expires_at: Timestamp | None = Field(
        description="Until then messages are signed with the secret before the last rotation, too."
    )

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        return cls.model_validate(_list_facts(endpoint))


class CreatedWebhookView(WebhookView):
    """A webhook with its new secret, which is not shown again."""

    secret: str = Field(
        description="Verify messages with it, as https://www.standardwebhooks.com says.",
        examples=["whsec_bWFza21pbGw="],
    )

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        return cls.model_validate({**_list_facts(endpoint), "secret": endpoint.secrets[0].text})


def _list_facts(endpoint: Endpoint) -> dict[str, object]:
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": list(endpoint.events),
        "all_jobs": endpoint.all_jobs,
        "description": endpoint.description,
        "created_at": endpoint.created_at,
        "is_enabled": endpoint.disabled_reason is None,
        "disabled_at": endpoint.disabled_at,
        "disabled_reason": endpoint.disabled_reason,
        "old_secret_expires_at": endpoint.secrets[1].expires_at if len(endpoint.secrets) > 1 else None,
    }


class WebhookListView(BaseModel):
    """All your webhooks, oldest first."""

    webhooks: list[WebhookView]


class DeliveryView(BaseModel):
    """A message to a webhook, and what became of it."""

    id: str = Field(
        description="Its `webhook-id`: made of the job and the event.",
        examples=["msg_0198f0c2a4b17d3e9c55e1f0a2b3c4d5_job_succeeded"],
    )
    type: str = Field(examples=["job.succeeded"])
    job_id: str | None = Field(description="null for a test message.")
    state: DeliveryState
    attempts: int
    created_at: Timestamp
    last_attempt_at: Timestamp | None
    next_attempt_at: Timestamp | None = Field(description="null if it is being sent, or is over.")
    response_status: int | None = Field(description="Of the last attempt; null without an answer.")
    error: str | None = Field(description="Why the last attempt failed.")

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        return cls(
            id=delivery.message_id,
            type=delivery.event,
            job_id=delivery.job_id or None,
            state=delivery.state,
            attempts=delivery.attempts,
            created_at=delivery.created_at,
            last_attempt_at=delivery.attempted_at,
            next_attempt_at=delivery.due_at,
            response_status=delivery.status,
            error=delivery.error,
        )


class DeliveryListView(BaseModel):
    """The latest deliveries of a webhook, newest first."""

    deliveries: list[DeliveryView]
