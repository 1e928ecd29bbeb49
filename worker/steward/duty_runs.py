"""When each duty was completed last, kept in Redis by its clock: a gateway sees there whether any steward runs."""

import threading
import time
from collections.abc import Callable, Mapping

from shared import redis_keys
from shared.redis_client import RedisClient, translate_redis_errors

# A duty that was not completed for so long is one that stewards do not have any more.
MAX_AGE_SECONDS = 7 * 86400

# Each pair of arguments is a duty and for how many seconds it has been completed.  A time in the future was
# written before the clock was set back.
_RECORD = """#!lua flags=allow-oom
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
for index = 1, #ARGV, 2 do
  local at = now - ARGV[index + 1]
  local last = tonumber(redis.call('HGET', KEYS[1], ARGV[index]) or 0)
  if at > last or last > now then
    redis.call('HSET', KEYS[1], ARGV[index], string.format('%.3f', at))
  end
end
local runs = redis.call('HGETALL', KEYS[1])
for index = 1, #runs, 2 do
  if now - runs[index + 1] > MAX_AGE then redis.call('HDEL', KEYS[1], runs[index]) end
end
""".replace("MAX_AGE", str(MAX_AGE_SECONDS))


class DutyRuns:
    """Thread-safe.  Runs are noted in memory and recorded together, because some duties run every second."""

    def __init__(
        self,
        client: RedisClient,
        *,
        observe: Callable[[str, float], object],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a function that is called with each duty and the seconds that it took."""
        self._redis = client
        self._script = client.register_script(_RECORD)
        self._observe = observe
        self._now = now
        self._lock = threading.Lock()
        self._completed_at: dict[str, float] = {}

    def duty_completed(self, duty: str, seconds: float) -> None:
        with self._lock:
            self._completed_at[duty] = self._now()
        self._observe(duty, seconds)

    @translate_redis_errors
    def record(self) -> None:
        """Write the runs since the last call to Redis.

        Raises:
            StoreUnavailable: Redis did not answer; the next call writes these runs too.
        """
        with self._lock:
            noted = dict(self._completed_at)
        if not noted:
            return
        ages = [(duty, self._now() - completed_at) for duty, completed_at in noted.items()]
        self._script(keys=[redis_keys.DUTY_RUNS], args=[argument for pair in ages for argument in pair])
        with self._lock:
            for duty, completed_at in noted.items():
                if self._completed_at.get(duty) == completed_at:
                    del self._completed_at[duty]

    @translate_redis_errors
    def read(self) -> Mapping[str, float]:
        """Return when each duty was completed last, by any steward: unix seconds by the clock of Redis."""
        return {duty: float(at) for duty, at in self._redis.hgetall(redis_keys.DUTY_RUNS).items()}
