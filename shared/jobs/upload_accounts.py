"""The accounts of a tenant's uploads that have not expired, used or not: how many, and how many bytes they may have."""

from dataclasses import dataclass

from shared import redis_keys
from shared.errors import QuotaExceeded
from shared.jobs.outcomes import OpenUploadOutcome
from shared.jobs.script import Script
from shared.redis_client import RedisClient, translate_redis_errors
from shared.redis_clock import RedisClock


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Of one tenant.  uploads: that have not expired.  bytes: that their files may have together."""

    uploads: int
    bytes: int


class UploadAccounts:
    """Thread-safe.  Redis alone has them: without its data a tenant begins anew, until its older uploads expire."""

    def __init__(self, client: RedisClient, clock: RedisClock, limits: UploadLimits, ttl_seconds: int) -> None:
        self._clock = clock
        self._limits = limits
        self._ttl_seconds = ttl_seconds
        self._open = Script(client, "open_upload", OpenUploadOutcome)

    @translate_redis_errors
    def open(self, tenant: str, upload_id: str, *, max_bytes: int, expires_at: float) -> None:
        """Count an upload until it expires; again, if its file is larger than was said.

        Raises:
            QuotaExceeded: the tenant has too many uploads, or too many bytes, that have not expired.
            StoreUnavailable: Redis did not answer.
        """
        keys = {"uploads": redis_keys.uploads(tenant), "upload_bytes": redis_keys.upload_bytes(tenant)}
        outcome, values = self._open(
            keys,
            id=upload_id,
            bytes=max_bytes,
            expires_at=expires_at,
            max_uploads=self._limits.uploads,
            max_bytes=self._limits.bytes,
            seconds=self._ttl_seconds + 60,
        )
        if outcome is not OpenUploadOutcome.OPENED:
            raise self._refuse(outcome, float(values[0]))

    def _refuse(self, outcome: OpenUploadOutcome, first_end: float) -> QuotaExceeded:
        is_count = outcome is OpenUploadOutcome.TOO_MANY
        limit = self._limits.uploads if is_count else self._limits.bytes
        what = f"{limit} uploads" if is_count else f"uploads of {limit} bytes in all"
        return QuotaExceeded(
            f"{what} of this tenant have not expired, which is the most; try again when one expires.",
            quota="uploads" if is_count else "upload_bytes",
            limit=limit,
            window_seconds=self._ttl_seconds,
            retry_after_seconds=max(1, round(first_end - self._clock.now())),
        )
