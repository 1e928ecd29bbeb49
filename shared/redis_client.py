"""Redis connections with short timeouts, and the translation of Redis errors into errors of this service."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, ParamSpec, Protocol, Self, TypeVar, cast, overload
from urllib.parse import quote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.retry import Retry

from shared.errors import StoreFull, StoreUnavailable
from shared.prefixes import build_key_prefix
from shared.redis_prefix import PrefixedRedis
from shared.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
Reply = TypeVar("Reply", str, bytes)
Key = str
Value = str | bytes | int | float

# More than a process has threads, so that a burst of requests never exhausts the pool and looks like an outage.
MAX_CONNECTIONS = 1000
HEALTH_CHECK_INTERVAL_SECONDS = 30


class RedisScript(Protocol):
    """A Lua script, sent by its hash."""

    def __call__(self, keys: Sequence[Key] = (), args: Sequence[Value] = ()) -> Any: ...


class RedisPipeline(Protocol):
    """Commands that are sent together; execute() returns their replies in order."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def hgetall(self, name: Key) -> Self: ...
    def hmget(self, name: Key, *fields: str) -> Self: ...
    def exists(self, *names: Key) -> Self: ...
    def zadd(self, name: Key, mapping: Mapping[str, float]) -> Self: ...
    def zrem(self, name: Key, *members: str) -> Self: ...
    def execute(self) -> list[Any]: ...
    def llen(self, name: Key) -> Self: ...
    def zcard(self, name: Key) -> Self: ...
    def zrange(self, name: Key, start: int, end: int) -> Self: ...


class RedisCommands(Protocol[Reply]):
    """The commands of redis.Redis that this service uses, for one type of reply.

    redis-py declares each reply as str or bytes; which one it is depends on `decode_responses`.

    key_prefix: it begins every key and channel; the client adds it.
    """

    key_prefix: str

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def delete(self, *names: Key) -> int: ...
    def exists(self, *names: Key) -> int: ...
    def get(self, name: Key) -> Reply | None: ...
    def hget(self, name: Key, key: str) -> Reply | None: ...
    def hgetall(self, name: Key) -> dict[Reply, Reply]: ...
    def hset(self, name: Key, key: str, value: Value) -> int: ...
    def hmget(self, name: Key, keys: Sequence[str]) -> Sequence[Reply | None]: ...
    def llen(self, name: Key) -> int: ...
    def ping(self) -> bool: ...
    def pipeline(self, transaction: bool = True) -> RedisPipeline: ...
    def pubsub(self, *, ignore_subscribe_messages: bool) -> PubSub: ...
    def register_script(self, script: str) -> RedisScript: ...
    def set(self, name: Key, value: Value, *, ex: int | None = None, nx: bool = False) -> bool | None: ...
    def smembers(self, name: Key) -> AbstractSet[Reply]: ...
    def time(self) -> tuple[int, int]: ...
    def zcard(self, name: Key) -> int: ...
    def zrange(
        self, name: Key, start: float | str, end: float | str, *, byscore: bool, offset: int, num: int
    ) -> list[Reply]: ...
    def zrem(self, name: Key, *members: str) -> int: ...
    def zrevrangebylex(self, name: Key, max: str, min: str, *, start: int, num: int) -> list[Reply]: ...


RedisClient = RedisCommands[str]
BinaryRedisClient = RedisCommands[bytes]


@overload
def connect(settings: Settings, *, decode: Literal[True] = True) -> RedisClient: ...
@overload
def connect(settings: Settings, *, decode: Literal[False]) -> BinaryRedisClient: ...
def connect(settings: Settings, *, decode: bool = True) -> RedisClient | BinaryRedisClient:
    """Return a client with a connection pool of its own; connects at the first command.

    Args:
        decode: return replies as str; False for keys that hold images.
    """
    client = PrefixedRedis.open(
        build_redis_url(settings),
        key_prefix=build_key_prefix(settings.redis_prefix),
        decode_responses=decode,
        socket_timeout=settings.redis_timeout_seconds,
        **build_socket_options(settings),
        **build_tls_options(settings),
        # One retry replaces a connection that was closed while idle; a retry after a timeout would only delay the 503.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        health_check_interval=HEALTH_CHECK_INTERVAL_SECONDS,
        max_connections=MAX_CONNECTIONS,
    )
    return cast(RedisClient | BinaryRedisClient, client)


def build_redis_url(settings: Settings) -> str:
    """Return the URL of Redis with the password of the settings, if it has none of its own."""
    parts = urlsplit(settings.redis_url)
    password = settings.redis_password.get_secret_value()
    if not password or parts.password is not None:
        return settings.redis_url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.rstrip(':')}:{quote(password, safe='')}@{host}").geturl()


def build_socket_options(settings: Settings) -> dict[str, Any]:
    """Return the options of a connection over TCP; a Unix socket has none of them."""
    if settings.redis_url.startswith("unix:"):
        return {}
    return {"socket_connect_timeout": settings.redis_timeout_seconds, "socket_keepalive": True}


def build_tls_options(settings: Settings) -> dict[str, Any]:
    """Return the options of TLS for redis-py, which Celery's transport passes on to it; empty for other URLs."""
    if not settings.redis_url.startswith("rediss:"):
        return {}
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": settings.redis_ca_file or None,
        "ssl_certfile": settings.redis_cert_file or None,
        "ssl_keyfile": settings.redis_key_file or None,
    }


@contextmanager
def redis_errors() -> Iterator[None]:
    """Translate the errors of redis-py.

    Raises:
        StoreFull: Redis is out of memory.
        StoreUnavailable: Redis is unreachable, loading or read-only, or it rejected a command.
    """
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise StoreUnavailable("The job store does not answer; try again in a few seconds.") from error
    except redis.OutOfMemoryError as error:
        raise StoreFull("The job store has no memory left for new work; try again in a minute.") from error
    except redis.ReadOnlyError as error:
        raise StoreUnavailable("The job store takes no writes at present; try again in a minute.") from error
    except redis.RedisError as error:
        # Protected mode, a wrong password, an error in a script: the log has the cause for the operator.
        raise StoreUnavailable("The job store refused a command; try again in a minute.") from error


def translate_redis_errors(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that calls Redis with redis_errors()."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with redis_errors():
            return function(*args, **kwargs)

    return wrapper
