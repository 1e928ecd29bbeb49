"""The lists in Redis from which Celery's workers take the messages of jobs: putting one in, and counting them."""

from shared.jobs.messages import SegmentMessage, queue_name
from shared.jobs.model import JobRequest
from shared.redis_client import RedisClient, translate_redis_errors


class JobQueue:
    """Thread-safe.  Every method may raise StoreUnavailable."""

    def __init__(self, client: RedisClient) -> None:
        self._redis = client

    @translate_redis_errors
    def publish(self, request: JobRequest) -> None:
        """Tell the workers of a job's model of it once more; JobStore.create() was the first to do so."""
        queue = queue_name(request.model, request.priority)
        self._redis.lpush(queue, SegmentMessage.about(request).to_celery(queue))

    @translate_redis_errors
    def waiting(self, queue: str) -> int:
        """Return how many messages of a queue no worker has taken yet."""
        return int(self._redis.llen(queue))
