"""Deletion of all data of a tenant: the request for it, and how far it is.  Both are objects, so they outlive Redis.

`erasures/{digest}/{milliseconds}` holds the name of a tenant, whose digest that is; what the tenant has stored before
that time is to be deleted.  `erasures/{digest}/progress` is written by the steward alone.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import orjson

from shared.jobs.ids import find_id_prefix
from shared.storage.bucket import Bucket, NoSuchObject, StoredObject
from shared.storage.keys import ERASURES_PREFIX, erasure_prefix, erasure_progress_key, erasure_request_key

_REQUEST = re.compile(rf"{ERASURES_PREFIX}([0-9a-f]{{64}})/([0-9]{{1,15}})")
_CONTENT_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an erasure is.

    scanned_to: the results of jobs up to this id were examined.
    deleted: jobs that were deleted.
    """

    scanned_to: str = ""
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class Erasure:
    """What a tenant has stored before `requested_at` is to be deleted; unix seconds by the clock of Redis."""

    tenant: str
    requested_at: float
    progress: Progress = Progress()

    @property
    def end_id(self) -> str:
        """The beginning of the first ids that are not deleted."""
        return find_id_prefix(self.requested_at + 0.001)


class Erasures:
    """Thread-safe.  Every method may raise StorageUnavailable."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def request(self, tenant: str, now: float) -> Erasure:
        """Remember that a tenant has all its data deleted; a later request takes the place of one before."""
        before, requested_ms = self._list_requests(tenant), int(now * 1000)
        key = erasure_request_key(tenant, requested_ms)
        self._bucket.put(key, orjson.dumps({"tenant": tenant}), content_type=_CONTENT_TYPE)
        self._bucket.delete([one for one in before if one < key])
        return Erasure(tenant, requested_ms / 1000, self._read_progress(tenant))

    def find(self, tenant: str) -> Erasure | None:
        """Return the erasure of a tenant that is under way."""
        return next(iter(self.read(list(self._bucket.list_objects(erasure_prefix(tenant))))), None)

    def list_objects(self) -> Sequence[StoredObject]:
        """Return the objects of all erasures."""
        return list(self._bucket.list_objects(ERASURES_PREFIX))

    def read(self, objects: Iterable[StoredObject]) -> Sequence[Erasure]:
        """Return the erasures that a listing shows, the latest request of each tenant."""
        latest = {match[1]: match for one in objects if (match := _REQUEST.fullmatch(one.key))}
        return [erasure for match in latest.values() if (erasure := self._read(match[0], int(match[2]))) is not None]

    def save(self, erasure: Erasure) -> None:
        """Store the progress of an erasure; only the steward may."""
        content = orjson.dumps(asdict(erasure.progress))
        self._bucket.put(erasure_progress_key(erasure.tenant), content, content_type=_CONTENT_TYPE)

    def complete(self, erasure: Erasure) -> None:
        """Forget an erasure, unless there was a later request; then that begins anew."""
        last = erasure_request_key(erasure.tenant, round(erasure.requested_at * 1000))
        requests = self._list_requests(erasure.tenant)
        # The request comes last: with it all is done again after a crash.
        self._bucket.delete([erasure_progress_key(erasure.tenant)])
        self._bucket.delete([one for one in requests if one <= last])

    def _list_requests(self, tenant: str) -> Sequence[str]:
        return [one.key for one in self._bucket.list_objects(erasure_prefix(tenant)) if _REQUEST.fullmatch(one.key)]

    def _read(self, key: str, requested_ms: int) -> Erasure | None:
        try:
            tenant = str(orjson.loads(self._bucket.get(key))["tenant"])
        except NoSuchObject:
            return None
        return Erasure(tenant, requested_ms / 1000, self._read_progress(tenant))

    def _read_progress(self, tenant: str) -> Progress:
        try:
            return Progress(**orjson.loads(self._bucket.get(erasure_progress_key(tenant))))
        except NoSuchObject:
            return Progress()
