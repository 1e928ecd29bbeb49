"""The usage of a tenant by day, which the scripts of the job store count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from shared import redis_keys
from shared.jobs.model import JobState
from shared.redis_client import RedisClient, translate_redis_errors

_FIRST_DAY = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class DayUsage:
    """The usage of one day in UTC.

    submitted: jobs that were created; answers from the cache are none.
    pixels: of the images of these jobs, as far as they were known at submission.
    ended: jobs that have ended on this day, by final state.
    device_ms: milliseconds that these had a device for themselves, or their part of a batch.
    """

    day: date
    submitted: int
    pixels: int
    ended: Mapping[JobState, int]
    device_ms: int


class UsageReader:
    """Thread-safe.  Every method may raise StoreUnavailable."""

    def __init__(self, client: RedisClient) -> None:
        self._redis = client

    @translate_redis_errors
    def read(self, tenant: str, first: date, last: date) -> Sequence[DayUsage]:
        """Return the usage of each day from the first to the last."""
        days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
        with self._redis.pipeline(transaction=False) as batch:
            for day in days:
                batch.hgetall(redis_keys.usage(tenant, (day - _FIRST_DAY).days))
            counts = batch.execute()
        return [_build(day, found) for day, found in zip(days, counts, strict=True)]

    @translate_redis_errors
    def count_queued_bytes(self, tenant: str) -> int:
        """Return the bytes of the inputs of a tenant's jobs that are not final."""
        return int(self._redis.hget(redis_keys.QUEUED_BYTES, tenant) or 0)


def _build(day: date, found: Mapping[str, str]) -> DayUsage:
    return DayUsage(
        day,
        submitted=int(found.get("submitted", 0)),
        pixels=int(found.get("pixels", 0)),
        ended={state: int(found.get(state, 0)) for state in JobState if state.is_final},
        device_ms=int(found.get("device_ms", 0)),
    )
