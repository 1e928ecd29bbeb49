"""Signatures and ids of messages, as https://www.standardwebhooks.com says.

The id of a message is made of the job and the event, so it is the same after a loss of Redis: a receiver that has seen
it ignores the message.
"""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

_SECRET_BYTES: Final = 32
_PREFIX: Final = "whsec_"


def new_secret() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def build_message_id(event: str, subject: str) -> str:
    """Return the id of the message about an event.

    >>> build_message_id("job.succeeded", "0198f0")
    'msg_0198f0_job_succeeded'
    """
    return f"msg_{subject}_{event.replace('.', '_')}"


def sign_message(message_id: str, body: bytes, signing_secrets: Sequence[str], now: float) -> dict[str, str]:
    """Return the headers of a message; without secrets it has no signature.

    Args:
        body: UTF-8.
        signing_secrets: each gives one signature, so that a receiver may have any of them.
        now: unix seconds.
    """
    at = datetime.fromtimestamp(int(now), UTC)
    headers = {"webhook-id": message_id, "webhook-timestamp": str(int(now))}
    signatures = [Webhook(secret).sign(message_id, at, body.decode()) for secret in signing_secrets]
    return headers | ({"webhook-signature": " ".join(signatures)} if signatures else {})
