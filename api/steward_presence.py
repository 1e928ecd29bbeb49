"""Whether a steward runs: each records in Redis when it last completed a duty."""

from shared import redis_keys
from shared.readiness import MISSING, OK
from shared.redis_client import RedisClient, translate_redis_errors

# Several times the interval of its most frequent duties.
MAX_SILENCE_SECONDS = 30.0


@translate_redis_errors
def check_steward(client: RedisClient) -> str:
    """Return OK or MISSING: whether a steward has completed a duty of late, by the clock of Redis.

    Raises:
        StoreUnavailable: Redis did not answer.
    """
    runs = client.hgetall(redis_keys.DUTY_RUNS).values()
    seconds, microseconds = client.time()
    oldest = seconds + microseconds / 1e6 - MAX_SILENCE_SECONDS
    return OK if any(float(completed_at) >= oldest for completed_at in runs) else MISSING
