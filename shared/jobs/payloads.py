"""Short-lived payloads in Redis: the image of a synchronous job, and the reply to its caller.

The message of a job never carries bytes.  The image is written by the script that records the job.
"""

from shared import redis_keys
from shared.redis_client import BinaryRedisClient, translate_redis_errors

REPLY_SECONDS = 120


class PayloadStore:
    """Thread-safe.  Needs a client that does not decode.  Every method may raise StoreUnavailable."""

    def __init__(self, client: BinaryRedisClient) -> None:
        self._redis = client

    @translate_redis_errors
    def get_input(self, job_id: str) -> bytes | None:
        """Return the image, or None if it has expired.  It is deleted with the end of the job."""
        return self._redis.get(redis_keys.input_payload(job_id))

    @translate_redis_errors
    def put_reply(self, job_id: str, body: bytes) -> None:
        """Store the reply and wake its waiters."""
        with self._redis.pipeline(transaction=False) as batch:
            batch.set(redis_keys.reply_payload(job_id), body, ex=REPLY_SECONDS)
            batch.publish(redis_keys.EVENTS, job_id)
            batch.execute()

    @translate_redis_errors
    def get_reply(self, job_id: str) -> bytes | None:
        return self._redis.get(redis_keys.reply_payload(job_id))
