"""Short-lived payloads in Redis: the image of a synchronous job, and the reply to its caller.

The message of a job never carries bytes.  The image is written by the script that records the job.
"""

from shared import redis_keys
from shared.redis_client import BinaryRedisClient, translate_redis_errors

REPLY_SECONDS = 120
# A caller waits for the reply of a running job, so it is stored also while Redis is out of memory.
_PUT_REPLY = f"""#!lua flags=allow-oom
redis.call('SET', KEYS[1], ARGV[1], 'EX', {REPLY_SECONDS})
redis.call('PUBLISH', KEYS[2], ARGV[2])
"""


class PayloadStore:
    """Thread-safe.  Needs a client that does not decode.  Every method may raise StoreUnavailable."""

    def __init__(self, client: BinaryRedisClient) -> None:
        self._redis = client
        self._put_reply = client.register_script(_PUT_REPLY)

    @translate_redis_errors
    def get_input(self, job_id: str) -> bytes | None:
        """Return the image, or None if it has expired.  It is deleted with the end of the job."""
        return self._redis.get(redis_keys.input_payload(job_id))

    @translate_redis_errors
    def put_reply(self, job_id: str, body: bytes) -> None:
        """Store the reply and wake its waiters."""
        self._put_reply(keys=[redis_keys.reply_payload(job_id), redis_keys.EVENTS], args=[body, job_id])

    @translate_redis_errors
    def get_reply(self, job_id: str) -> bytes | None:
        return self._redis.get(redis_keys.reply_payload(job_id))
