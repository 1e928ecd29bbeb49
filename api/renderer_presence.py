"""Whether a renderer runs: each says so in Redis at an interval of seconds."""

from shared.jobs.render_calls import RenderCallStore
from shared.readiness import MISSING, OK


def check_renderer(calls: RenderCallStore) -> str:
    """Return OK or MISSING: whether a renderer has taken calls of late.

    Raises:
        StoreUnavailable: Redis did not answer.
    """
    return OK if calls.read_state().is_alive else MISSING
