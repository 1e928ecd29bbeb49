"""A Redis whose memory is used up."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis

FILLER = "test:filler"
FILLER_BYTES = 64 * 2**20


@contextmanager
def fill(client: redis.Redis, *, share: float) -> Iterator[None]:
    """While the block runs, another key fills this share of Redis' memory; more than 1 is out of memory."""
    client.setrange(FILLER, FILLER_BYTES, b"x")
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory", int(used / share))
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)
        client.delete(FILLER)
