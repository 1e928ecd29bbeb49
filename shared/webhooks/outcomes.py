"""The outcomes of the scripts in shared/webhooks/scripts, and the states of a delivery."""

from enum import StrEnum


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"  # it was tried for as long as MASKMILL_WEBHOOK_RETRY_SECONDS, or answered with 410
    DROPPED = "dropped"  # its job was purged, or its endpoint is disabled or deleted


class FindEndedOutcome(StrEnum):
    FOUND = "found"  # followed by the ids and the ends of jobs


class PlanDeliveriesOutcome(StrEnum):
    PLANNED = "planned"  # followed by the targets that have too many deliveries


class ClaimDeliveriesOutcome(StrEnum):
    CLAIMED = "claimed"  # followed by deliveries


class FinishDeliveryOutcome(StrEnum):
    RECORDED = "recorded"
    LOST = "lost"  # its lease has expired, and another steward has it
    UNKNOWN = "unknown"  # it is not stored any more


class RedeliverOutcome(StrEnum):
    PENDING = "pending"
    UNKNOWN = "unknown"


class ListDeliveriesOutcome(StrEnum):
    LISTED = "listed"  # followed by the records of deliveries


class ForgetEndpointOutcome(StrEnum):
    FORGOTTEN = "forgotten"


class MeasureWebhooksOutcome(StrEnum):
    MEASURED = "measured"  # followed by ages and numbers
