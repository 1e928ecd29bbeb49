"""One attempt of a delivery: the message is built, signed and sent, and what came of it is recorded."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from shared.errors import ForbiddenUrl, UrlRefused, UrlUnreachable
from shared.outgoing.client import OutgoingResponse
from shared.webhooks.delivery import AttemptEnd, ClaimedDelivery, Target
from shared.webhooks.delivery_store import DeliveryStore
from shared.webhooks.endpoint import PING, Endpoint, JobEvent
from shared.webhooks.endpoint_store import EndpointCache
from shared.webhooks.outcomes import DeliveryState
from shared.webhooks.signatures import sign_message
from worker.steward.job_ends import JobEnd, JobEnds
from worker.steward.metrics import WebhookMetrics
from worker.steward.webhook_disabling import EndpointDisabler
from worker.steward.webhook_payload import build_job_message, build_message
from worker.steward.webhook_policy import GONE, RetryPolicy, judge_answer, judge_error

log = structlog.get_logger()


class Sender(Protocol):
    """Implemented by shared.outgoing.client.GuardedClient."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, max_seconds: float) -> OutgoingResponse: ...


@dataclass(frozen=True, slots=True)
class Message:
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    endpoint: Endpoint | None


class NotSent(Exception):
    """There is nothing to send, or no receiver; the message says why."""


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """Makes one attempt of a delivery.

    base_url: what links begin with.
    """

    deliveries: DeliveryStore
    endpoints: EndpointCache
    ends: JobEnds
    client: Sender
    disabler: EndpointDisabler
    metrics: WebhookMetrics
    policy: RetryPolicy
    timeout_seconds: float
    base_url: str
    now: Callable[[], float]

    def attempt(self, claimed: ClaimedDelivery) -> None:
        """Send a message, and record what came of it.

        Raises:
            Unavailable: a store did not answer; the delivery is attempted again when its lease has expired.
        """
        try:
            message = self._build(claimed)
        except NotSent as error:
            end = AttemptEnd(DeliveryState.DROPPED, error=str(error))
        else:
            end = self._send(claimed, message)
            if end.status == GONE:
                # First: if this process dies here, the message is sent once more, and answered alike.
                self.disabler.disable(claimed.target, "The receiver answered with status 410.")
        self._record(claimed, end)

    def _record(self, claimed: ClaimedDelivery, end: AttemptEnd) -> None:
        failures = self.deliveries.finish(claimed, end)
        write = log.info if end.state is DeliveryState.DELIVERED else log.warning
        write(
            "webhook_attempted",
            webhook_id=claimed.target.name,
            message_id=claimed.message_id,
            state=end.state,
            attempt=claimed.attempt,
            status=end.status,
            reason=end.error,
        )
        self.metrics.attempt_ended(end.state, self.now() - claimed.occurred_at)
        # A message was given up, and the receiver took no other one since its first attempt.
        if end.state is DeliveryState.FAILED and (failures or 0) >= claimed.attempt:
            self.disabler.disable(claimed.target, f"The receiver took no message for a long time. {end.error}")

    def _send(self, claimed: ClaimedDelivery, message: Message) -> AttemptEnd:
        now = self.now()
        secrets = message.endpoint.list_secrets(now) if message.endpoint else []
        headers = sign_message(claimed.message_id, message.body, secrets, now)
        jitter = random.random()  # noqa: S311
        try:
            answer = self.client.post(
                message.url,
                message.body,
                {"Content-Type": "application/json", **headers},
                max_seconds=self.timeout_seconds,
            )
        except (ForbiddenUrl, UrlRefused, UrlUnreachable) as error:
            # Their sentences have neither the URL nor an address.
            return judge_error(claimed, str(error), policy=self.policy, jitter=jitter)
        return judge_answer(claimed, answer.status, answer.headers, policy=self.policy, jitter=jitter)

    def _build(self, claimed: ClaimedDelivery) -> Message:
        """Return the message of a delivery.

        Raises:
            NotSent: it is not wanted any more.
        """
        endpoint = None if claimed.target.is_url else self._find_endpoint(claimed.target)
        if claimed.event == PING:
            if endpoint is None:
                raise NotSent("A URL gets no test message.")
            body = build_message(PING, {"webhook_id": endpoint.id}, occurred_at=claimed.occurred_at)
            return Message(endpoint.url, body, endpoint)
        end = self._read_end(claimed)
        url = endpoint.url if endpoint else end.request.webhook or ""
        body = build_job_message(claimed.event, end, ended_at=claimed.occurred_at, base_url=self.base_url)
        return Message(url, body, endpoint)

    def _find_endpoint(self, target: Target) -> Endpoint:
        endpoint = self.endpoints.find(target.tenant, target.name)
        if endpoint is None:
            raise NotSent("The webhook was deleted.")
        if endpoint.disabled_reason is not None:
            raise NotSent("The webhook is disabled.")
        return endpoint

    def _read_end(self, claimed: ClaimedDelivery) -> JobEnd:
        try:
            end = self.ends.read(claimed.job_id)
        except ValueError:
            raise NotSent("The job cannot be read by this version.") from None
        if end is None or JobEvent.of(end.state) != claimed.event:
            raise NotSent("The job is not stored any more, or was run again.")
        return end
