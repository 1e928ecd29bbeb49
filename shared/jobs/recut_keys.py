"""Idempotency keys of recuts that are stored: the same recut under the same key is the same job."""

from dataclasses import replace

from shared import redis_keys
from shared.errors import IdempotencyConflict
from shared.jobs.model import JobRequest
from shared.jobs.outcomes import ReserveRecutOutcome
from shared.jobs.script import Script
from shared.redis_client import RedisClient, translate_redis_errors


class RecutKeys:
    """In Redis.  Thread-safe."""

    def __init__(self, client: RedisClient) -> None:
        self._reserve = Script(client, "reserve_recut", ReserveRecutOutcome)

    @translate_redis_errors
    def reserve(
        self, request: JobRequest, *, digest: str, fingerprint: str, seconds: int, gone_id: str | None = None
    ) -> JobRequest:
        """Return the request of a stored recut: as it is, or as it was when the key was used first.

        So the call of a repeated recut is identical to the first one: it joins that, or stores the same job again.

        Args:
            digest: of the tenant and its key.
            fingerprint: of what the recut is of, and how.
            seconds: the life of the key.
            gone_id: of a job that was purged, so that its key is free.

        Raises:
            IdempotencyConflict: the key was used for something else.
            StoreUnavailable, StoreFull: Redis did not answer, or is out of memory.
        """
        outcome, values = self._reserve(
            {"idempotency": redis_keys.idempotency(digest)},
            id=request.id,
            fingerprint=fingerprint,
            # As text, because a number would lose its fraction.
            created_at=repr(request.created_at),
            request_id=request.request_id,
            expire_seconds=seconds,
            gone_id=gone_id,
        )
        if outcome is ReserveRecutOutcome.CONFLICT:
            raise IdempotencyConflict("This Idempotency-Key was used for something else; take another one.")
        job_id, created_at, request_id = values
        return replace(request, id=job_id, created_at=float(created_at), request_id=request_id)
