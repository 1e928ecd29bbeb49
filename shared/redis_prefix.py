"""A client of Redis whose keys and channels all begin with a prefix, so that several stacks can share one database.

The prefix is added where a command is sent, so that no caller can forget it.  Scripts get it as an argument for the
keys that they build themselves (shared/jobs/script.py), and Celery's client is told it (shared/broker/app.py).
"""

from collections.abc import Sequence
from typing import Any, Self, cast

import redis
from redis.client import Pipeline, PubSub

_ONE_KEY = frozenset(
    {
        *("GET", "SET", "HGET", "HGETALL", "HMGET", "HSET", "LLEN", "SMEMBERS"),
        *("ZADD", "ZCARD", "ZRANGE", "ZREM", "ZREVRANGEBYLEX"),
    }
)
_ALL_KEYS = frozenset({"DEL", "EXISTS", "SUBSCRIBE"})
# Their keys are counted by the argument before them.
_SCRIPTS = frozenset({"EVAL", "EVALSHA"})
_WITHOUT_KEYS = frozenset({"PING", "TIME", "SCRIPT LOAD"})


def add_prefix(prefix: str, command: Sequence[Any]) -> Sequence[Any]:
    """Return a command with the prefix before each of its keys.

    >>> add_prefix("a:", ("EVALSHA", "0f", 2, "mm:leases", "mm:models", "argument"))
    ('EVALSHA', '0f', 2, 'a:mm:leases', 'a:mm:models', 'argument')

    Raises:
        ValueError: it is not known which of the command's arguments are keys.
    """
    first, last = _find_keys(command)
    if not prefix:
        return command
    return (*command[:first], *(f"{prefix}{key}" for key in command[first:last]), *command[last:])


def _find_keys(command: Sequence[Any]) -> tuple[int, int]:
    """Return where a command's keys begin and end."""
    name = command[0]
    if name in _ONE_KEY:
        return 1, 2
    if name in _ALL_KEYS:
        return 1, len(command)
    if name in _SCRIPTS:
        return 3, 3 + int(command[2])
    if name in _WITHOUT_KEYS:
        return 1, 1
    raise ValueError(f"the keys of {name} are unknown; add it to shared/redis_prefix.py")


class PrefixedPipeline(Pipeline):
    key_prefix = ""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return super().execute_command(*add_prefix(self.key_prefix, args), **options)  # type: ignore[no-untyped-call]


class PrefixedPubSub(PubSub):
    key_prefix = ""

    def execute_command(self, *args: Any) -> Any:
        return super().execute_command(*add_prefix(self.key_prefix, args))  # type: ignore[no-untyped-call]


class PrefixedRedis(redis.Redis):
    """A command whose keys are unknown is refused, so that none is sent without the prefix."""

    key_prefix = ""

    @classmethod
    def open(cls, url: str, *, key_prefix: str = "", **options: Any) -> Self:
        """Return a client of the server at a URL, as from_url() does."""
        client = cast(Self, cls.from_url(url, **options))
        client.key_prefix = key_prefix
        return client

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return super().execute_command(*add_prefix(self.key_prefix, args), **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        made = PrefixedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.key_prefix = self.key_prefix
        return made

    def pubsub(self, **options: Any) -> PubSub:
        made = PrefixedPubSub(self.connection_pool, **options)
        made.key_prefix = self.key_prefix
        return made
