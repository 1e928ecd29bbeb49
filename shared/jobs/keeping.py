"""Longer retention of single jobs: an empty object for each says for how long, so that it outlives the loss of Redis.

The object is `kept/{job_id}/{seconds}`.  The seconds count from when it was stored, so that the age of results and this
are by the same clock, and one listing tells all.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from shared import redis_keys
from shared.jobs.outcomes import KeepOutcome
from shared.jobs.script import Script
from shared.redis_client import RedisClient, translate_redis_errors
from shared.storage.bucket import Bucket, StoredObject
from shared.storage.keys import KEPT_PREFIX, kept_key, kept_prefix

# Of a mark, or less if the job is kept for less.  Longer than a steward takes from a listing of `kept/` to the last
# deletion that follows from it.
MARK_SECONDS: Final = 3600
_KEPT = re.compile(rf"{KEPT_PREFIX}([0-9a-f]{{32}})/([0-9]{{1,12}})")


class JobKeeper:
    """Thread-safe."""

    def __init__(self, client: RedisClient, bucket: Bucket) -> None:
        self._bucket = bucket
        self._keep = Script(client, "keep", KeepOutcome)

    def keep(self, job_id: str, *, seconds: int) -> bool:
        """Keep a job that has ended, with its objects, for so long from now; never for less than it is kept anyway.

        Safe to repeat.  The object comes first: without it the steward deletes what the record names.  A steward that
        listed the objects before is stopped by a mark in Redis, which is set in the same step in which an end of the
        retention would be seen.

        Returns:
            Whether it is kept; false if its objects are being deleted just now.

        Raises:
            Unavailable: the bucket or Redis did not answer.
        """
        # Under a key of its own: an object whose time is over may be deleted at any moment.
        present = {found.key for found in self._bucket.list_objects(kept_prefix(job_id))}
        while kept_key(job_id, seconds) in present:
            seconds += 1
        self._bucket.put(kept_key(job_id, seconds), b"", content_type="application/octet-stream")
        ends = find_ends(self._bucket.list_objects(kept_prefix(job_id)))
        # A job needs one object, so that no caller can fill the bucket with them.
        last = max(ends, key=lambda key: ends[key], default="")
        self._bucket.delete([key for key in ends if key != last])
        if self._keep_record(job_id, seconds) is not KeepOutcome.ENDED:
            return True
        self._bucket.delete([kept_key(job_id, seconds)])
        return False

    @translate_redis_errors
    def _keep_record(self, job_id: str, seconds: int) -> KeepOutcome:
        keys = {
            "job": redis_keys.job(job_id),
            "kept_mark": redis_keys.KEPT_MARK_PREFIX + job_id,
            "ended_mark": redis_keys.RETENTION_ENDED_PREFIX + job_id,
        }
        return self._keep(keys, id=job_id, seconds=seconds, mark_seconds=min(MARK_SECONDS, seconds))[0]


def find_ends(objects: Iterable[StoredObject]) -> Mapping[str, float]:
    """Return until when objects of `kept/` keep their jobs, by their keys and by the clock of the object store."""
    return {found.key: found.modified_at + int(match[2]) for found in objects if (match := _KEPT.fullmatch(found.key))}


def read_kept(objects: Iterable[StoredObject]) -> Mapping[str, float]:
    """Return until when jobs are kept, by their ids, from a listing of `kept/` or of a part of it."""
    kept: dict[str, float] = {}
    for key, end in find_ends(objects).items():
        job_id = key.split("/")[1]
        kept[job_id] = max(end, kept.get(job_id, 0.0))
    return kept
