"""Connections to Redis that give up quickly, and the translation of its errors into ours."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import StoreUnavailable
from shared.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

# redis-py's own annotations say bytes or str of every answer; which one it is, connect() decides.
RedisClient = Any


def connect(settings: Settings, *, decode: bool = True) -> RedisClient:
    """Return a client of a pool of its own; nothing is connected before the first command.

    Args:
        decode: answer with str; False for keys that hold images.
    """
    return redis.Redis.from_url(
        settings.redis_url,
        decode_responses=decode,
        socket_timeout=settings.redis_timeout_seconds,
        socket_connect_timeout=settings.redis_timeout_seconds,
        socket_keepalive=True,
        # One more try heals a connection that died while idle; trying again after a silence would only delay the 503.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        health_check_interval=30,
        # More than a process has threads, so that a busy minute is never mistaken for an outage.
        max_connections=1000,
    )


@contextmanager
def redis_errors() -> Iterator[None]:
    """Translate whatever Redis may do to us.

    Raises:
        StoreUnavailable: Redis is away, still loading, out of memory, read-only or refuses us.
    """
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise StoreUnavailable("The job store does not answer; try again in a few seconds.") from error
    except (redis.OutOfMemoryError, redis.ReadOnlyError) as error:
        raise StoreUnavailable("The job store takes no writes at present; try again in a minute.") from error
    except redis.RedisError as error:
        # Protected mode, a wrong password, a script that broke: the operator finds the cause in the log.
        raise StoreUnavailable("The job store refused a command; try again in a minute.") from error


def answers_or_unavailable(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function that talks to Redis in redis_errors()."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with redis_errors():
            return function(*args, **kwargs)

    return wrapped
