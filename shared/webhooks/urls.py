"""Which URLs webhooks may have."""

from shared.outgoing.policy import OutgoingPolicy
from shared.settings import Settings


def build_webhook_policy(settings: Settings) -> OutgoingPolicy:
    """Return the policy of the settings: https alone, unless MASKMILL_WEBHOOK_HTTP is on."""
    schemes = ("https", "http") if settings.webhook_http == "on" else ("https",)
    return OutgoingPolicy.build(schemes, settings.outgoing_allowed)
