"""The lists in Redis from which Celery's workers take the messages of jobs: putting one in, and counting them."""

from shared.jobs import JobRequest
from shared.messages import SegmentMessage, queue_name
from shared.redis_client import RedisClient, answers_or_unavailable

# Where kombu's Redis transport keeps the messages of a queue, by priority; ours have the highest.
PRIORITY_STEPS = ("", "\x06\x163", "\x06\x166", "\x06\x169")


class JobQueue:
    """Thread-safe.  Every method may raise StoreUnavailable."""

    def __init__(self, client: RedisClient) -> None:
        self._redis = client

    @answers_or_unavailable
    def publish(self, request: JobRequest) -> None:
        """Tell the workers of a job's model of it once more; JobStore.create() was the first to do so."""
        queue = queue_name(request.model, request.lane)
        self._redis.lpush(queue, SegmentMessage.about(request).to_celery(queue))

    @answers_or_unavailable
    def waiting(self, queue: str) -> int:
        """Return how many messages of a queue no worker has taken yet."""
        with self._redis.pipeline(transaction=False) as batch:
            for step in PRIORITY_STEPS:
                batch.llen(queue + step)
            return sum(batch.execute())
