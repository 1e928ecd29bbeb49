"""The lists in Redis from which Celery's workers take messages: adding one, and counting them."""

from shared.broker.envelope import encode_message
from shared.jobs.messages import queue_name
from shared.jobs.model import JobRequest
from shared.redis_client import RedisClient, translate_redis_errors


class JobQueue:
    """Thread-safe.  Every method may raise StoreUnavailable."""

    def __init__(self, client: RedisClient) -> None:
        self._redis = client

    @translate_redis_errors
    def publish(self, request: JobRequest) -> None:
        """Enqueue a job's message once more; JobStore.create() enqueued the first."""
        self._redis.lpush(queue_name(request.model, request.priority), encode_message(request))

    @translate_redis_errors
    def waiting_count(self, queue: str) -> int:
        """Return how many messages of a queue no worker has taken yet."""
        return int(self._redis.llen(queue))
