"""The deliveries of webhooks in Redis: planned, claimed with a lease, repeated, and over.

Each step is one script, so a steward that dies in any of them loses none and, at worst, sends a message once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from shared import redis_keys
from shared.errors import UnknownDelivery
from shared.redis_client import RedisClient, translate_redis_errors
from shared.webhooks.delivery import AttemptEnd, ClaimedDelivery, Delivery, Target, WebhookLoad
from shared.webhooks.outcomes import (
    ClaimDeliveriesOutcome,
    DeliveryState,
    FindEndedOutcome,
    FinishDeliveryOutcome,
    ForgetEndpointOutcome,
    ListDeliveriesOutcome,
    MeasureWebhooksOutcome,
    PlanDeliveriesOutcome,
    RedeliverOutcome,
)
from shared.webhooks.script import load_script

# How long a delivery that is over is listed, and how many of one target.
KEEP_SECONDS: Final = 3 * 24 * 3600
MAX_RECENT: Final = 200


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a target that fails is left alone: after so many failures in a row, first for `seconds`, then for twice as
    long each time, up to `max_seconds`."""

    failures: int = 5
    seconds: float = 5.0
    max_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job whose deliveries are not planned yet; `ended_at` is unix seconds by the clock of Redis."""

    job_id: str
    ended_at: float


class DeliveryStore:
    """Thread-safe.  Every method may raise StoreUnavailable."""

    def __init__(self, client: RedisClient, *, max_pending: int, breaker: Breaker | None = None) -> None:
        """Take how many pending deliveries one target may have; more are not made."""
        self.max_pending = max_pending
        self._breaker = breaker or Breaker()
        self._find_ended = load_script(client, "find_ended", FindEndedOutcome)
        self._plan = load_script(client, "plan_deliveries", PlanDeliveriesOutcome)
        self._claim = load_script(client, "claim_deliveries", ClaimDeliveriesOutcome)
        self._finish = load_script(client, "finish_delivery", FinishDeliveryOutcome)
        self._redeliver = load_script(client, "redeliver", RedeliverOutcome)
        self._list = load_script(client, "list_deliveries", ListDeliveriesOutcome)
        self._forget = load_script(client, "forget_endpoint", ForgetEndpointOutcome)
        self._measure = load_script(client, "measure_webhooks", MeasureWebhooksOutcome)

    @translate_redis_errors
    def find_ended(self, *, limit: int) -> Sequence[EndedJob]:
        """Return jobs in the outbox; those first that ended first."""
        _, values = self._find_ended({"outbox": redis_keys.WEBHOOK_OUTBOX}, limit=limit)
        return [EndedJob(job_id, float(at)) for job_id, at in zip(values[::2], values[1::2], strict=True)]

    @translate_redis_errors
    def plan(
        self, message_id: str, event: str, targets: Sequence[Target], *, occurred_at: float, job_id: str | None = None
    ) -> Sequence[Target]:
        """Make a delivery for each target that has none of this message, and take the job out of the outbox.

        Returns:
            The targets that have too many pending deliveries; they get none.
        """
        _, full = self._plan(
            {"outbox": redis_keys.WEBHOOK_OUTBOX},
            job=job_id,
            message=message_id,
            type=event,
            occurred_at=f"{occurred_at:.6f}",
            targets=[str(target) for target in targets],
            max_pending=self.max_pending,
            max_recent=MAX_RECENT,
        )
        return [Target.parse(target) for target in full]

    @translate_redis_errors
    def claim(
        self, *, limit: int, lease_seconds: float, max_of_target: int, max_of_tenant: int
    ) -> Sequence[ClaimedDelivery]:
        """Claim deliveries that are due, at most one of each target."""
        token = uuid4().hex
        _, claimed = self._claim(
            {"due": redis_keys.WEBHOOK_DUE, "running": redis_keys.WEBHOOK_RUNNING},
            token=token,
            limit=limit,
            lease_seconds=lease_seconds,
            max_of_target=max_of_target,
            max_of_tenant=max_of_tenant,
        )
        return [_read_claim(values, token) for values in claimed]

    @translate_redis_errors
    def finish(self, claimed: ClaimedDelivery, end: AttemptEnd) -> int | None:
        """Record an attempt.

        Returns:
            How often the target has failed in a row; None if the attempt does not count any more.
        """
        _, values = self._finish(
            {"running": redis_keys.WEBHOOK_RUNNING},
            target=str(claimed.target),
            message=claimed.message_id,
            token=claimed.token,
            state=end.state,
            status=end.status,
            error=end.error,
            delay_seconds=end.delay_seconds,
            keep_seconds=KEEP_SECONDS,
            is_failure=end.is_failure,
            block_seconds=end.block_seconds,
            breaker_failures=self._breaker.failures,
            breaker_seconds=self._breaker.seconds,
            max_breaker_seconds=self._breaker.max_seconds,
        )
        return int(values[0]) if values else None

    @translate_redis_errors
    def redeliver(self, target: Target, message_id: str) -> Delivery:
        """Send a delivery again.

        Raises:
            UnknownDelivery: the target has none of this id, or it is not kept any more.
        """
        keys = {"running": redis_keys.WEBHOOK_RUNNING}
        outcome, _ = self._redeliver(keys, target=str(target), message=message_id)
        if outcome is RedeliverOutcome.UNKNOWN:
            raise _unknown(message_id)
        return self.get(target, message_id)

    def get(self, target: Target, message_id: str) -> Delivery:
        """Return a delivery.

        Raises:
            UnknownDelivery: the target has none of this id, or it is not kept any more.
        """
        found = self._read(target, limit=1, message_id=message_id)
        if not found:
            raise _unknown(message_id)
        return found[0]

    def list_newest(self, target: Target, *, limit: int) -> Sequence[Delivery]:
        """Return the latest deliveries of a target, newest first, MAX_RECENT at most."""
        return self._read(target, limit=limit)

    @translate_redis_errors
    def _read(self, target: Target, *, limit: int, message_id: str | None = None) -> Sequence[Delivery]:
        keys = {"running": redis_keys.WEBHOOK_RUNNING}
        _, found = self._list(keys, target=str(target), limit=limit, message=message_id)
        return [_read_delivery(values) for values in found]

    @translate_redis_errors
    def forget(self, target: Target) -> None:
        """Delete the deliveries of a target."""
        self._forget({"due": redis_keys.WEBHOOK_DUE}, target=str(target))

    @translate_redis_errors
    def measure(self) -> WebhookLoad:
        """Return how long webhooks wait."""
        keys = {
            "outbox": redis_keys.WEBHOOK_OUTBOX,
            "due": redis_keys.WEBHOOK_DUE,
            "running": redis_keys.WEBHOOK_RUNNING,
        }
        _, (outbox, due, targets, running) = self._measure(keys)
        return WebhookLoad(float(outbox), float(due), int(targets), int(running))


def _read_claim(values: Sequence[Any], token: str) -> ClaimedDelivery:
    target, message, job, event, occurred_at, since, attempt, now = values
    return ClaimedDelivery(
        Target.parse(target), message, job, event, float(occurred_at), float(since), int(attempt), float(now), token
    )


def _read_delivery(values: Sequence[Any]) -> Delivery:
    message, due_at, is_running, *record = values
    fields = dict(zip(record[::2], record[1::2], strict=True))
    return Delivery(
        message_id=message,
        job_id=fields["job"],
        event=fields["type"],
        state=DeliveryState(fields["state"]),
        attempts=int(fields["attempts"]),
        created_at=float(fields["created_at"]),
        attempted_at=float(fields["attempted_at"]) if "attempted_at" in fields else None,
        due_at=float(due_at) if due_at else None,
        is_running=bool(int(is_running)),
        status=int(fields["status"]) if fields.get("status") else None,
        error=fields.get("error") or None,
    )


def _unknown(message_id: str) -> UnknownDelivery:
    return UnknownDelivery(f"There is no delivery {message_id[:100]} of this webhook, or it is not kept any more.")
