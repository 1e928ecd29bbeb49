"""The endpoints of tenants: objects in the bucket, so that they outlive Redis.

Changes of one tenant's endpoints exclude each other by a lease in Redis.  Each also changes a word of the tenant in
Redis, by which other processes see that what they have read is outdated.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import structlog

from shared import redis_keys
from shared.errors import StoreUnavailable, TooManyWebhooks, Unavailable, UnknownWebhook
from shared.redis_client import RedisClient, redis_errors
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import WEBHOOKS_PREFIX, webhook_key, webhook_prefix
from shared.webhooks.endpoint import Endpoint, is_endpoint_id

log = structlog.get_logger()

# A change is a read and a write of one object.
LEASE_SECONDS: Final = 10
WAIT_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.02
ALL_KNOWN: Final = "*"  # a field that no tenant can have
_RELEASE: Final = """#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""

Change = Callable[[Endpoint], Endpoint]


class EndpointStore:
    """Thread-safe.  Every method may raise Unavailable."""

    def __init__(self, client: RedisClient, bucket: Bucket) -> None:
        self._redis = client
        self._bucket = bucket
        self._release = client.register_script(_RELEASE)

    def get(self, tenant: str, endpoint_id: str) -> Endpoint:
        """Return an endpoint.

        Raises:
            UnknownWebhook: the tenant has no endpoint of this id.
        """
        if not is_endpoint_id(endpoint_id):
            raise _unknown(endpoint_id)
        try:
            return Endpoint.from_json(self._bucket.get(webhook_key(tenant, endpoint_id)))
        except NoSuchObject:
            raise _unknown(endpoint_id) from None

    def list_all(self, tenant: str) -> Sequence[Endpoint]:
        """Return the endpoints of a tenant, oldest first, without those that this version cannot read."""
        return [one for endpoint_id in self._list_ids(tenant) if (one := self._read(tenant, endpoint_id)) is not None]

    def create(self, endpoint: Endpoint, *, max_endpoints: int) -> None:
        """Store a new endpoint.

        Raises:
            TooManyWebhooks: the tenant has as many as it may.
        """
        with self._change(endpoint.tenant):
            if len(self._list_ids(endpoint.tenant)) >= max_endpoints:
                raise TooManyWebhooks(f"You have {max_endpoints} webhooks, which is the most; delete one first.")
            self._put(endpoint)

    def edit(self, tenant: str, endpoint_id: str, change: Change) -> Endpoint:
        """Replace an endpoint by what a function makes of it, and return that.

        Raises:
            UnknownWebhook: the tenant has no endpoint of this id.
        """
        with self._change(tenant):
            changed = change(self.get(tenant, endpoint_id))
            self._put(changed)
        return changed

    def delete(self, tenant: str, endpoint_id: str) -> None:
        """Delete an endpoint.

        Raises:
            UnknownWebhook: the tenant has no endpoint of this id.
        """
        with self._change(tenant):
            self.get(tenant, endpoint_id)
            self._bucket.delete([webhook_key(tenant, endpoint_id)])

    def get_version(self, tenant: str) -> str | None:
        """Return the word of a tenant, another one after each change; None if Redis knows of none of its endpoints."""
        with redis_errors():
            return self._redis.hget(redis_keys.WEBHOOK_TENANTS, tenant)

    def are_all_known(self) -> bool:
        """Tell whether Redis knows all tenants with endpoints; False after it has lost its data."""
        return self.get_version(ALL_KNOWN) is not None

    def restore_tenants(self) -> None:
        """Tell Redis which tenants have endpoints."""
        found = {entry.key.split("/")[1] for entry in self._bucket.list_objects(WEBHOOKS_PREFIX)}
        # The mark comes last: it says that all others are there.
        for tenant in (*sorted(found), ALL_KNOWN):
            self._note_change(tenant)

    def _list_ids(self, tenant: str) -> Sequence[str]:
        prefix = webhook_prefix(tenant)
        names = (entry.key.removeprefix(prefix) for entry in self._bucket.list_objects(prefix))
        return [name for name in names if is_endpoint_id(name)]

    def _read(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        try:
            return self.get(tenant, endpoint_id)
        except UnknownWebhook:
            return None
        except ValueError as error:
            log.error("webhook_unreadable", webhook_id=endpoint_id, reason=type(error).__name__)
            return None

    def _put(self, endpoint: Endpoint) -> None:
        key = webhook_key(endpoint.tenant, endpoint.id)
        self._bucket.put(key, endpoint.to_json(), content_type="application/json")

    def _note_change(self, tenant: str) -> None:
        with redis_errors():
            self._redis.hset(redis_keys.WEBHOOK_TENANTS, tenant, uuid4().hex)

    @contextmanager
    def _change(self, tenant: str) -> Iterator[None]:
        """Exclude other changes of a tenant's endpoints, and invalidate what other processes have read."""
        key, token = redis_keys.webhook_edit(tenant), uuid4().hex
        self._wait_for(key, token)
        try:
            # First as well: from now on jobs of the tenant are put into the outbox.
            self._note_change(tenant)
            yield
            self._note_change(tenant)
        finally:
            with suppress(Unavailable), redis_errors():
                self._release(keys=[key], args=[token])

    def _wait_for(self, key: str, token: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with redis_errors():
                if self._redis.set(key, token, ex=LEASE_SECONDS, nx=True):
                    return
            if time.monotonic() >= deadline:
                raise StoreUnavailable("Another change of your webhooks is under way; try again in a few seconds.")
            time.sleep(_POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class _Cached:
    version: str | None
    read_at: float
    endpoints: Sequence[Endpoint]


class EndpointCache:
    """The endpoints of tenants as the steward uses them, read again when they have changed.  Thread-safe.

    MAX_AGE_SECONDS bounds what a process that died between its two steps leaves behind.
    """

    MAX_AGE_SECONDS: Final = 60.0
    MAX_TENANTS: Final = 1000

    def __init__(self, store: EndpointStore, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._cached: dict[str, _Cached] = {}

    def list_all(self, tenant: str) -> Sequence[Endpoint]:
        """Return the endpoints of a tenant.

        Raises:
            Unavailable: a store did not answer.
        """
        version, now = self._store.get_version(tenant), self._monotonic()
        cached = self._cached.get(tenant)
        if cached and version and cached.version == version and now - cached.read_at < self.MAX_AGE_SECONDS:
            return cached.endpoints
        endpoints = self._store.list_all(tenant)
        if len(self._cached) >= self.MAX_TENANTS:
            self._cached = {}
        self._cached[tenant] = _Cached(version, now, endpoints)
        return endpoints

    def find(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """Return an endpoint, or None if it was deleted; raises as list_all()."""
        return next((one for one in self.list_all(tenant) if one.id == endpoint_id), None)


def _unknown(endpoint_id: str) -> UnknownWebhook:
    return UnknownWebhook(f"There is no webhook {endpoint_id[:64]}.")
