"""What must be fast and need not last: the image of an interactive job and the reply to it, in Redis for a short time.

The message of a job never carries bytes; they are checked in as the job is recorded, and collected under its id.
"""

from shared.jobs.store import EVENTS, image_key
from shared.redis_client import BinaryRedisClient, translate_redis_errors

REPLY_SECONDS = 120


class PayloadStore:
    """Thread-safe.  Needs a client that does not decode.  Every method may raise StoreUnavailable."""

    def __init__(self, client: BinaryRedisClient) -> None:
        self._redis = client

    @translate_redis_errors
    def collect(self, job_id: str) -> bytes | None:
        """Return the image, or None if its time is over.  It stays, so that another attempt finds it too."""
        return self._redis.get(image_key(job_id))

    @translate_redis_errors
    def drop(self, job_id: str) -> None:
        self._redis.delete(image_key(job_id))

    @translate_redis_errors
    def reply(self, job_id: str, body: bytes) -> None:
        """Leave the reply and wake whoever waits for it."""
        with self._redis.pipeline(transaction=False) as batch:
            batch.set(f"mm:reply:{job_id}", body, ex=REPLY_SECONDS)
            batch.publish(EVENTS, job_id)
            batch.execute()

    @translate_redis_errors
    def get_reply(self, job_id: str) -> bytes | None:
        return self._redis.get(f"mm:reply:{job_id}")
