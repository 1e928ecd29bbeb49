"""The lists in Redis from which workers take messages: adding messages, and counting those that are missing."""

from shared import redis_keys
from shared.broker.envelope import encode_message
from shared.redis_client import RedisClient, translate_redis_errors

# A message belongs to a job that is recorded already, so it is enqueued also while Redis is out of memory.
_PUBLISH = """#!lua flags=allow-oom
return redis.call('LPUSH', KEYS[1], unpack(ARGV))
"""
# Lua cannot unpack more values than its stack has room for.
_MAX_MESSAGES = 1000


class JobQueue:
    """Thread-safe.  Every method may raise StoreUnavailable."""

    def __init__(self, client: RedisClient) -> None:
        self._redis = client
        self._publish = client.register_script(_PUBLISH)

    @translate_redis_errors
    def publish(self, queue: str, count: int = 1) -> None:
        """Enqueue messages beside those that the scripts enqueue.  One too many wakes a worker for nothing."""
        messages = [encode_message(queue) for _ in range(count)]
        for start in range(0, count, _MAX_MESSAGES):
            self._publish(keys=[queue], args=messages[start : start + _MAX_MESSAGES])

    @translate_redis_errors
    def missing_count(self, queue: str) -> int:
        """Return how many jobs that can be claimed have no message, or one that was taken just now."""
        with self._redis.pipeline() as batch:
            batch.zcard(redis_keys.queued_jobs(queue)).zcard(redis_keys.suspected_jobs(queue)).llen(queue)
            jobs, suspects, messages = batch.execute()
        return max(0, int(jobs) + int(suspects) - int(messages))
