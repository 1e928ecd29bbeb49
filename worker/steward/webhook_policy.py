"""What an attempt of a delivery has come to, and when the next one is made.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from shared.webhooks.delivery import AttemptEnd, ClaimedDelivery
from shared.webhooks.outcomes import DeliveryState

GONE: Final = 410
_MAX_HEADER_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Each delay is three times the one before, reduced by chance by up to a half.

    total_seconds: for how long a delivery is repeated.
    max_retry_after_seconds: for how long a receiver may ask to be left alone.
    """

    total_seconds: float
    first_delay_seconds: float = 5.0
    factor: float = 3.0
    max_delay_seconds: float = 3 * 3600.0
    max_retry_after_seconds: float = 3600.0

    def compute_delay(self, attempt: int, jitter: float) -> float:
        """Return the seconds after an attempt, counted from 1.

        Args:
            jitter: in [0, 1), by chance.
        """
        # Beyond 20 the largest delay is reached, and powers would grow without end.
        delay = min(self.max_delay_seconds, self.first_delay_seconds * self.factor ** min(attempt - 1, 20))
        return delay * (1 + jitter) / 2


def judge_answer(
    claimed: ClaimedDelivery, status: int, headers: Mapping[str, str], *, policy: RetryPolicy, jitter: float
) -> AttemptEnd:
    """Return what an answer means; only a status of 2xx is a success.

    Args:
        headers: of the answer, with names in lower case.
    """
    if 200 <= status < 300:
        return AttemptEnd(DeliveryState.DELIVERED, status)
    if status == GONE:
        return AttemptEnd(DeliveryState.FAILED, status, "The receiver answered with status 410.", is_failure=True)
    reason = f"The receiver answered with status {status}{_EXPLANATION if 300 <= status < 400 else ''}."
    asked = parse_retry_after(headers.get("retry-after", ""), claimed.now)
    wait = min(asked, policy.max_retry_after_seconds)
    return _retry(claimed, reason, policy=policy, jitter=jitter, status=status, wait_seconds=wait)


_EXPLANATION: Final = ", and redirects are not followed"


def judge_error(claimed: ClaimedDelivery, reason: str, *, policy: RetryPolicy, jitter: float) -> AttemptEnd:
    """Return what an attempt without an answer means."""
    return _retry(claimed, reason, policy=policy, jitter=jitter)


def _retry(
    claimed: ClaimedDelivery,
    reason: str,
    *,
    policy: RetryPolicy,
    jitter: float,
    status: int | None = None,
    wait_seconds: float = 0.0,
) -> AttemptEnd:
    delay = max(policy.compute_delay(claimed.attempt, jitter), wait_seconds)
    is_over = claimed.now + delay > claimed.since + policy.total_seconds
    return AttemptEnd(
        DeliveryState.FAILED if is_over else DeliveryState.PENDING,
        status,
        reason,
        delay_seconds=delay,
        is_failure=True,
        block_seconds=wait_seconds,
    )


def parse_retry_after(text: str, now: float) -> float:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3); 0 if it says nothing.

    Args:
        now: unix seconds.
    """
    text = text.strip()
    if not text or len(text) > _MAX_HEADER_CHARS or not text.isascii():
        return 0.0
    if text.isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)
