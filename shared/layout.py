"""The layout of the data in Redis and in the bucket, and the check that this version may use it.

Layout 4: the files of an attempt are in a folder of its name, which result.json has; Redis keys as in
shared/redis_keys.py.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from shared import redis_keys
from shared.errors import LayoutMismatch
from shared.jobs.request_record import read_request_text
from shared.redis_client import RedisClient, redis_errors
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import INBOX_PREFIX, LAYOUT_OBJECT, RESULTS_PREFIX

LAYOUT_VERSION = "4"
# Layout 1 did not name itself.  Only it has these keys in Redis, and this member in the request of a job.
_KEYS_OF_LAYOUT_1 = ("mm:queues", "mm:claimed")
_MEMBER_OF_LAYOUT_1 = "lane"
# Of the objects without a layout mark so many are looked at.
MAX_EXAMINED_OBJECTS = 100


def check_redis_layout(client: RedisClient) -> None:
    """Mark Redis with this version's layout, or make sure that it has it.

    Raises:
        LayoutMismatch: it holds data of another layout.
        StoreUnavailable: it did not answer.
    """
    with redis_errors():
        if client.exists(*_KEYS_OF_LAYOUT_1):
            _compare("Redis", "1")
        # Written only if it is missing: a process starts also while Redis is out of memory.
        if not client.exists(redis_keys.LAYOUT):
            client.set(redis_keys.LAYOUT, LAYOUT_VERSION, nx=True)
        _compare("Redis", str(client.get(redis_keys.LAYOUT)))


def check_bucket_layout(bucket: Bucket) -> None:
    """Mark the bucket with this version's layout, or make sure that it has it.

    A bucket without a mark may hold jobs of this layout: the gateway accepts them before the first worker has started.

    Raises:
        LayoutMismatch: it holds data of another layout.
        StorageUnavailable: it did not answer.
    """
    try:
        _compare("The bucket", bucket.get(LAYOUT_OBJECT).decode())
    except NoSuchObject:
        if any(_MEMBER_OF_LAYOUT_1 in request for request in _read_requests(bucket)):
            _compare("The bucket", "1")
        bucket.put_first(LAYOUT_OBJECT, LAYOUT_VERSION.encode(), content_type="text/plain")


def _read_requests(bucket: Bucket) -> Iterator[dict[str, object]]:
    """Yield the requests of some jobs in the bucket, as JSON objects of whichever layout."""
    for found in islice(bucket.list_objects(INBOX_PREFIX), MAX_EXAMINED_OBJECTS):
        with suppress(NoSuchObject, KeyError, ValueError):
            yield json.loads(read_request_text(found.key.removeprefix(INBOX_PREFIX), bucket=bucket))
    for found in islice(bucket.list_objects(RESULTS_PREFIX), MAX_EXAMINED_OBJECTS):
        if found.key.endswith("/result.json"):
            with suppress(NoSuchObject, KeyError, ValueError):
                yield json.loads(bucket.get(found.key))["request"]


def _compare(where: str, found: str) -> None:
    if found != LAYOUT_VERSION:
        raise LayoutMismatch(
            f"{where} holds data of layout {found}, and this version needs layout {LAYOUT_VERSION}: "
            "use an empty one, or the version that wrote it."
        )
